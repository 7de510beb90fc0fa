"""The averaged weights and the re-estimated statistics: by hand, by PyTorch's own averaging, and for unusual nets."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from models import FCN, CNNWithResidual
from utils.data.images import ImageSet
from utils.experiment import TrainConfig
from utils.training.averaging import averaged_state, final_epochs, keep_weights, reestimate_statistics
from utils.training.device import Execution
from utils.training.fit import fit
from utils.training.predict import predict
from utils.training.seeds import STREAMS

EXECUTION = Execution(torch.device("cpu"), "fp32", 1)
BF16 = Execution(torch.device("cpu"), "bf16", 1)
RECIPE = TrainConfig(epochs=7, batch_size=64, optimizer="adam", learning_rate=1e-2)


def small_residual(data, **options):
    torch.manual_seed(0)
    return CNNWithResidual(image_shape=data.image_shape, num_classes=10, widths=(4, 6), strides=(1, 2), **options)


def averages_over(net, config, epochs, change):
    """The averaged state of a net that `change(net, epoch)` changes in each epoch."""
    kept = []
    for epoch in range(1, epochs + 1):
        with torch.no_grad():
            change(net, epoch)
        kept = keep_weights(kept, net, config, epoch)
    return averaged_state(kept, net, config, epochs)


# Which epochs


@pytest.mark.parametrize("epochs, expected", [(1, 1), (2, 1), (3, 1), (5, 1), (6, 2), (15, 5), (16, 5), (100, 33)])
def test_the_final_epochs_are_the_last_third(epochs, expected):
    assert final_epochs(replace(RECIPE, epochs=epochs), epochs) == expected


@pytest.mark.parametrize("trained, expected", [(1, 1), (5, 1), (6, 2), (8, 2), (9, 3), (100, 3)])
def test_with_early_stopping_they_are_three_at_most(trained, expected):
    assert final_epochs(replace(RECIPE, epochs=100, patience=2), trained) == expected


# The average


def test_by_hand_it_is_the_mean_of_the_weights_after_each_final_epoch(data):
    """Seven epochs: the last two. `on_epoch` copies the weights after each epoch."""
    net, seen = small_residual(data), []
    plain = {name: value.clone() for name, value in net.state_dict().items()}

    def snapshot(entry):
        seen.append({name: value.clone().double() for name, value in net.state_dict().items()})

    result = fit(net, RECIPE, 0, data, EXECUTION, snapshot)
    assert result.final_epochs == 2 and len(seen) == 7
    parameters = dict(net.named_parameters())
    for name, value in result.averaged_weights.items():
        if name in parameters:
            expected = torch.from_numpy(np.mean([epoch[name].numpy() for epoch in seen[-2:]], axis=0))
            assert torch.allclose(value.double(), expected, rtol=1e-6, atol=1e-7)
            assert not torch.equal(value, seen[-1][name].float()) and not torch.equal(value, plain[name])
        else:
            assert torch.equal(value.double(), seen[-1][name])  # buffers are the last epoch's


def test_it_is_that_of_averaged_model(data):
    """`AveragedModel` is fed the same weights at the ends of the five final epochs of 15."""
    net, config = small_residual(data), replace(RECIPE, epochs=15)
    oracle, generator = AveragedModel(net), torch.Generator().manual_seed(3)

    def change(net, epoch):
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
        if epoch > 10:
            oracle.update_parameters(net)

    state = averages_over(net, config, 15, change)
    assert int(oracle.n_averaged) == 5
    for name, value in oracle.module.named_parameters():
        assert torch.allclose(state[name], value, rtol=1e-5, atol=1e-6)


def test_one_final_epoch_gives_the_last_weights_exactly(data):
    net = FCN(image_shape=data.image_shape, num_classes=10)
    result = fit(net, replace(RECIPE, epochs=2), 0, data, EXECUTION)
    assert result.final_epochs == 1
    assert all(torch.equal(result.averaged_weights[name], value) for name, value in net.state_dict().items())


def test_early_stopping_averages_the_latest_three(data):
    """Weights 1, 2, ... 9: the last three of nine epochs, and only the last of four."""
    config = replace(RECIPE, epochs=100, patience=3)
    for epochs, expected in ((9, 8.0), (4, 4.0), (6, 5.5)):
        net = nn.Linear(2, 2)
        state = averages_over(net, config, epochs, lambda net, epoch: net.weight.fill_(epoch))
        assert (state["weight"] == expected).all()


def test_a_run_that_stops_early_says_how_many_epochs_it_averaged(data):
    """A learning rate at which the validation loss soon rises."""
    net = FCN(image_shape=data.image_shape, num_classes=10)
    result = fit(net, TrainConfig(40, 64, "adam", 0.02, patience=2), 0, data, EXECUTION)
    trained = len(result.history)
    assert 6 <= trained < 40 and result.final_epochs == max(1, min(3, trained // 3))
    assert len(result.for_average) == 3


class Masked(nn.Module):
    """A mask of -inf as a parameter and as a buffer, a counter, whole numbers, and one module under two names."""

    def __init__(self):
        super().__init__()
        mask = torch.full((3, 3), -torch.inf).triu(1)
        self.frozen_mask = nn.Parameter(mask, requires_grad=False)
        self.register_buffer("mask", mask.clone())
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.levels = nn.Parameter(torch.arange(3), requires_grad=False)
        self.phase = nn.Parameter(torch.ones(2, dtype=torch.complex64))
        self.linear = nn.Linear(3, 3)
        self.same = self.linear


def test_what_does_not_move_stays_as_it_is_to_the_bit():
    """Five times a third is not a third in floating point, and -inf minus -inf is no number."""
    net = Masked()

    def change(net, epoch):
        net.calls += 1
        net.levels += epoch
        net.phase.copy_(torch.tensor([epoch * 1j, 2.0]))
        net.linear.weight.fill_(epoch)
        net.linear.bias.fill_(1 / 3)

    state = averages_over(net, replace(RECIPE, epochs=15), 15, change)
    assert torch.equal(state["frozen_mask"], net.frozen_mask) and torch.equal(state["mask"], net.mask)
    assert state["calls"] == 15 and torch.equal(state["levels"], net.levels)
    assert torch.allclose(state["phase"], torch.tensor([13j, 2.0]))
    assert (state["linear.weight"] == 13).all() and (state["linear.bias"] == np.float32(1 / 3)).all()
    assert torch.equal(state["same.weight"], state["linear.weight"])  # tied, so both names have the average
    net.load_state_dict(state)
    assert net.linear.weight[0, 0] == 13


@pytest.mark.parametrize("normed", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_weight_norm_is_averaged_though_it_cannot_be_copied(data, normed):
    net = nn.Sequential(nn.Flatten(), normed(nn.Linear(data.train.images[0].numel(), 10)))
    seen = []

    def snapshot(entry):
        seen.append({name: value.clone() for name, value in net.state_dict().items()})

    result = fit(net, replace(RECIPE, epochs=6), 0, data, EXECUTION, snapshot)
    assert result.final_epochs == 2 and result.averaged_weights.keys() == seen[-1].keys()
    for name, value in result.averaged_weights.items():
        assert torch.allclose(value, (seen[-2][name] + seen[-1][name]) / 2, atol=1e-6)
        assert not torch.equal(value, seen[-1][name])
    if normed is nn.utils.weight_norm:
        net(torch.zeros(1, *data.image_shape))
        with pytest.raises(RuntimeError, match="deepcopy"):
            copy.deepcopy(net)  # as `AveragedModel` would
    net.load_state_dict(result.averaged_weights)


# The statistics


def moments(net, inputs):
    """{name: (mean, unbiased variance)} of what each batch norm gets, over all images at once, in double precision."""
    net, found, hooks = copy.deepcopy(net).double().train(), {}, []
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):

            def look(module, args, name=name):
                found[name] = (args[0].mean((0, 2, 3)), args[0].var((0, 2, 3)))

            hooks.append(module.register_forward_pre_hook(look))
    with torch.no_grad():
        net(inputs.double())
    return found


def test_they_are_those_over_all_images_at_once(data):
    """Fit images that fit into one batch: exactly. The moments are taken by hooks, in double precision."""
    net = small_residual(data)
    few = data.fit.first(480)
    assert reestimate_statistics(net, few, EXECUTION, 0) == sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    ((inputs, _),) = few.batches(480)
    for name, (mean, var) in moments(net, inputs).items():
        module = net.get_submodule(name)
        assert torch.allclose(module.running_mean.double(), mean, rtol=1e-4, atol=1e-5)
        assert torch.allclose(module.running_var.double(), var, rtol=1e-4, atol=1e-5)
        assert module.num_batches_tracked == 1 and module.momentum == 0.1


def test_images_sorted_by_class_give_nearly_the_same():
    """In their own order the batches would differ in their means, whose variance would be lost."""
    labels = torch.arange(4).repeat_interleave(500)
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 30, (2000, 4, 4, 1), np.uint8))
    images = ImageSet(noise + 60 * labels.to(torch.uint8).view(-1, 1, 1, 1), labels, (0.5,), (0.25,))
    net = Spy()
    reestimate_statistics(net, images, EXECUTION, 0)
    ((inputs, _),) = images.batches(len(images))
    mean, var = moments(net, inputs)["first"]
    assert net.first.running_mean.item() == pytest.approx(mean.item(), rel=1e-4, abs=1e-4)
    assert net.first.running_var.item() == pytest.approx(var.item(), rel=0.01)
    of_sorted = torch.stack([moments(net, batch)["first"][1] for batch in inputs.tensor_split(4)])
    assert of_sorted.mean() < 0.1 * var  # the fault that the order prevents


class Spy(nn.Module):
    """A batch norm, and the sizes and labels of the batches that it saw in training mode."""

    def __init__(self, train_second=True):
        super().__init__()
        self.first, self.second = nn.BatchNorm2d(1), nn.BatchNorm2d(1)
        self.dropout = nn.Dropout(0.5)
        self.train_second = train_second
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.sizes, self.seen, self.counts, self.outputs, self.modes = [], [], [], [], []

    def train(self, mode=True):
        super().train(mode)
        if not self.train_second:
            self.second.eval()
        return self

    def forward(self, images):
        if self.training:
            self.calls += 1
            self.sizes.append(len(images))
            self.seen += images.sum((1, 2, 3)).tolist()
            self.counts.append(int(self.calls))
            self.modes.append(torch.is_autocast_enabled("cpu"))
        hidden = self.second(3 + 2 * self.first(images))
        dropped = self.dropout(hidden)
        self.outputs.append(dropped)
        return dropped.flatten(1)


def made_images(count):
    images = torch.from_numpy(np.random.default_rng(count).integers(0, 256, (count, 4, 4, 1), np.uint8))
    return ImageSet(images, torch.zeros(count, dtype=torch.int64), (0.5,), (0.25,))


@pytest.mark.parametrize(
    "count, sizes", [(2, [2]), (500, [500]), (501, [251, 250]), (1001, [334, 334, 333]), (5000, [500] * 10)]
)
def test_batches_differ_by_one_image_at_most(count, sizes):
    net = Spy()
    assert reestimate_statistics(net, made_images(count), EXECUTION, 0) == 2
    assert net.sizes == sizes and not any(net.modes)
    assert net.counts == list(range(1, len(sizes) + 1))  # put back before and after the pass, not within it
    ((inputs, _),) = made_images(count).batches(count)
    assert sorted(net.seen) == pytest.approx(sorted(inputs.sum((1, 2, 3)).tolist()), abs=1e-4)  # each image once
    assert net.calls == 0  # a buffer of another kind stays as it was


def test_a_batch_norm_in_evaluation_mode_keeps_its_statistics_and_applies_them():
    """`update_bn` resets it all the same; the batch norms behind it must not see what a reset one gives."""
    net, images = Spy(train_second=False), made_images(40)
    behind = nn.BatchNorm2d(1)
    net.second.running_mean.fill_(5.0)
    net.second.running_var.fill_(9.0)
    net.second.num_batches_tracked.fill_(77)
    whole = nn.Sequential(net, nn.Unflatten(1, (1, 4, 4)), behind)
    net.dropout.p = 0.0
    assert reestimate_statistics(whole, images, EXECUTION, 0) == 2
    assert (net.second.running_mean, net.second.running_var, net.second.num_batches_tracked) == (5, 9, 77)
    # The first gives mean 0 and variance 1; 3 + 2x has mean 3 and variance 4; (x - 5) / 3 has -2/3 and 4/9.
    assert behind.running_mean.item() == pytest.approx(-2 / 3, abs=1e-4)
    assert behind.running_var.item() == pytest.approx(4 / 9 * 640 / 639, rel=1e-3)


def test_a_net_without_batch_norm_is_left_alone(data):
    net = FCN(image_shape=data.image_shape, num_classes=10)
    net.forward = None  # it isn't called
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert reestimate_statistics(net, data.fit, EXECUTION, 0) == 0
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    without = nn.BatchNorm2d(1, track_running_stats=False)
    assert reestimate_statistics(nn.Sequential(without), made_images(4), EXECUTION, 0) == 0


def test_dropout_draws_from_a_stream_of_the_seed():
    """Appended to the streams, so that those of training stay as they were; the same whatever was drawn before."""
    assert STREAMS[:5] == ("initialisation", "order", "dropout", "augmentation", "other libraries")
    outputs = []
    for seed, drawn in ((0, 0), (0, 7), (1, 0)):
        net = Spy()
        torch.rand(drawn)
        reestimate_statistics(net, made_images(20), EXECUTION, seed)
        outputs.append(net.outputs[0])
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])


def test_it_runs_under_the_autocast_of_the_run(data):
    net = Spy()
    reestimate_statistics(net, made_images(20), BF16, 0)
    assert net.modes == [True]


def test_a_diverged_run_has_no_average(data):
    net = FCN(image_shape=data.image_shape, num_classes=10)
    result = fit(net, TrainConfig(3, 64, "sgd", 1e30), 0, data, EXECUTION)
    assert result.diverged_at and not result.averaged_weights and result.final_epochs == 0


class Changing(nn.Module):
    """A batch norm that `meets` its batches, or not; behind it another one."""

    def __init__(self, meets):
        super().__init__()
        self.first, self.behind = nn.BatchNorm2d(1), nn.BatchNorm2d(1)
        self.meets = meets
        with torch.no_grad():
            self.first.running_mean.fill_(5.0)
            self.first.running_var.fill_(9.0)
            self.first.num_batches_tracked.fill_(77)

    def forward(self, images):
        return self.behind(self.meets(self.first, images)).flatten(1)


def skipped(norm, images):
    return images


def switched_off_within_forward(norm, images):
    return norm.eval()(images)


@pytest.mark.parametrize("meets", [skipped, switched_off_within_forward])
def test_a_batch_norm_that_meets_no_batch_keeps_its_statistics(meets):
    """As a layer that is skipped at random in a small data set; `update_bn` leaves it reset."""
    net, images = Changing(meets), made_images(40)
    assert reestimate_statistics(net, images, EXECUTION, 0) == 1
    assert (net.first.running_mean, net.first.running_var, net.first.num_batches_tracked) == (5, 9, 77)
    ((inputs, _),) = images.batches(40)
    expected = inputs if meets is skipped else (inputs - 5) / (9 + net.first.eps) ** 0.5
    assert net.behind.running_mean.item() == pytest.approx(expected.mean().item(), abs=1e-5)
    assert net.behind.running_var.item() == pytest.approx(expected.var().item(), rel=1e-4)


def test_a_batch_norm_that_tracks_nothing_any_more_is_not_counted():
    net = nn.BatchNorm2d(1)
    net.track_running_stats = False
    assert reestimate_statistics(nn.Sequential(net), made_images(4), EXECUTION, 0) == 0


def test_a_buffer_that_an_evaluation_has_remade_is_put_back():
    """A cache of the size of the batch, made under inference mode: it can't be written to in place."""

    class Cached(Spy):
        def forward(self, images):
            self.register_buffer("cache", images.mean((1, 2, 3)), persistent=False)
            return super().forward(images)

    net, images = Cached(), made_images(40)
    predict(net, images.first(7), EXECUTION)
    before = net.cache.clone()
    assert reestimate_statistics(net, images, EXECUTION, 0) == 2 and torch.equal(net.cache, before)
