"""The training loop on embedded data: what it records, that it repeats, and how it ends when numbers run away."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_records import without_times
from torch.nn import functional as F

from models import FCN, CNNWithResidual, SimpleCNN
from utils.experiment import TrainConfig
from utils.training.device import Execution
from utils.training.fit import fit
from utils.training.predict import confident_mistakes, loss_and_correct, predict
from utils.training.seeds import epoch_order

EXECUTION = Execution(torch.device("cpu"), "fp32", 1)
CONFIG = TrainConfig(epochs=2, batch_size=64, optimizer="adam", learning_rate=1e-3)


def trained(model, data, seed=0, config=CONFIG):
    torch.manual_seed(seed)
    net = model(image_shape=data.image_shape, num_classes=10)
    return net, fit(net, config, seed, data, EXECUTION)


def test_same_seed_same_result_bit_for_bit(data):
    (net, first), (other, second) = trained(FCN, data), trained(FCN, data)
    assert without_times(first.history) == without_times(second.history)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    assert trained(FCN, data, seed=1)[1].history[0]["train_loss"] != first.history[0]["train_loss"]


def test_models_of_a_seed_see_the_same_batches(data, monkeypatch):
    seen = []
    for model in (FCN, SimpleCNN):
        torch.manual_seed(3)
        net = model(image_shape=data.image_shape, num_classes=10)
        batches = []
        net.register_forward_pre_hook(
            lambda module, args, to=batches: to.append(args[0].clone()) if module.training else None
        )
        fit(net, CONFIG, 3, data, EXECUTION)
        seen.append(batches)
    assert len(seen[0]) == len(seen[1]) == 2 * -(-len(data.train) // 64)
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    assert not torch.equal(seen[0][0], seen[0][len(seen[0]) // 2])  # a new order in the second epoch


def test_epoch_order_is_a_permutation_of_its_own_for_each_seed_and_epoch():
    orders = [tuple(epoch_order(50, seed, epoch).tolist()) for seed in (0, 1) for epoch in (1, 2)]
    assert len(set(orders)) == 4 and all(sorted(order) == list(range(50)) for order in orders)


def test_the_training_loss_is_a_mean_over_examples_whatever_the_size_of_the_last_batch(data):
    net = FCN(image_shape=data.image_shape, num_classes=10, dropout=0.0)
    logits = predict(net, data.train, EXECUTION)
    result = fit(net, TrainConfig(1, 1100, "sgd", 1e-30), 0, data, EXECUTION)  # as good as untrained
    entry, rest = result.history[0], len(data.train) - 1100
    assert entry["train_loss"] == pytest.approx(F.cross_entropy(logits.double(), data.train.labels).item(), rel=1e-6)
    assert entry["train_accuracy"] == pytest.approx(loss_and_correct(logits, data.train.labels)[1] / len(data.train))
    order = epoch_order(len(data.train), 0, 1)
    of_batches = [F.cross_entropy(logits[rows], data.train.labels[rows]) for rows in order.split([1100, rest])]
    assert entry["train_loss"] != pytest.approx(torch.stack(of_batches).mean().item(), rel=1e-6)


def test_batch_normalisation_meets_no_batch_of_one(data):
    """Its last maps are 1 x 1 here: a single image has no variance, and PyTorch refuses it."""
    net = CNNWithResidual(image_shape=data.image_shape, num_classes=10, widths=(16,) * 4)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        net.train()(torch.zeros(1, *data.image_shape))
    few = replace(data, train=data.train.take(np.arange(129)))
    result = fit(net, TrainConfig(1, 64, "sgd", 0.01), 0, few, EXECUTION)
    assert result.diverged_at is None and len(result.gradient_flow["norms"]) == 2


def test_an_all_zero_gradient_is_recorded_as_zero_and_trains_on(data):
    net = FCN(image_shape=data.image_shape, num_classes=10)
    for name, parameter in net.named_parameters():
        if name.startswith("1."):
            parameter.register_hook(torch.zeros_like)
    before = net[1].weight.detach().clone()
    result = fit(net, CONFIG, 0, data, EXECUTION)
    flow, names = result.gradient_flow, result.gradient_flow["weight_names"].tolist()
    first = names.index("1.weight")
    assert result.diverged_at is None and torch.equal(net[1].weight, before)
    assert not flow["norms"][:, first].any() and not flow["update_ratios"][:, first].any()
    assert (np.delete(flow["norms"], first, axis=1) > 0).all()


def test_a_run_that_is_not_finite_ends_and_names_the_step(data):
    steps = -(-len(data.train) // 64)
    net = FCN(image_shape=data.image_shape, num_classes=10)
    calls = 0

    def poison(gradient):
        nonlocal calls
        calls += 1
        return gradient * float("nan") if calls == steps + 3 else gradient

    net[-1].bias.register_hook(poison)  # a bias: its gradient isn't among the recorded weights
    result = fit(net, TrainConfig(4, 64, "adam", 1e-3), 0, data, EXECUTION)
    assert result.diverged_at == steps + 3
    assert len(result.history) == 2 and result.best_epoch == 1


def test_best_weights_are_those_of_the_lowest_validation_loss(data):
    net, result = trained(FCN, data, config=TrainConfig(5, 64, "adam", 0.02))
    losses = [entry["val_loss"] for entry in result.history]
    assert result.best_epoch == int(np.argmin(losses)) + 1
    net.load_state_dict(result.best_weights)
    loss, _ = loss_and_correct(predict(net, data.val, EXECUTION), data.val.labels)
    assert loss == pytest.approx(min(losses))


def test_confident_mistakes_are_wrong_and_sorted(data):
    net, _ = trained(FCN, data)
    logits = predict(net, data.test, EXECUTION)
    arrays = confident_mistakes(logits, data.test)
    indices = arrays["mistake_indices"]
    assert (logits.argmax(1)[indices] != data.test.labels[indices]).all()
    assert (np.diff(arrays["mistake_confidences"]) <= 0).all()
    assert np.array_equal(arrays["mistake_images"][:, 0], data.test.images[indices][..., 0].numpy())
