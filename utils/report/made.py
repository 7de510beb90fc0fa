"""How results were made: data, recipe, machines, and how to load the weights. Never loads torch."""

from collections import defaultdict
from collections.abc import Sequence

from utils.files import file_name
from utils.records.record import WEIGHT_FILES, RunRecord, Runs
from utils.words import plural, runs_in_words, setting

SETTINGS_TOLD = ("momentum", "nesterov", "schedule", "warmup", "label_smoothing", "clip", "patience")


def what_was_run(runs: Runs, data_name: str) -> str:
    """Data, seeds, recipe and machines, in two sentences."""
    first = next(iter(runs.values()))[0]
    config = first.config
    seeds = sorted({record.seed for records in runs.values() for record in records})
    optimizer = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}[config["optimizer"]]
    rate = [f"{config['learning_rate']:g}", *(setting(name, config[name]) for name in SETTINGS_TOLD if name in config)]
    return (
        f"{data_name}, {plural(len(seeds), 'seed')} "
        f"({', '.join(map(str, seeds))}), {plural(config['epochs'], 'epoch')}, batches of {config['batch_size']}, "
        f"{optimizer} with learning rate {', '.join(rate)}. Trained on {_machines(runs)}."
    )


def _machines(runs: Runs) -> str:
    """Where the runs were trained: first the machine of most runs, then the others, each with its runs."""
    seeds_of = defaultdict(lambda: defaultdict(list))  # {machine: {model: seeds}}
    for model, records in runs.items():
        for record in records:
            seeds_of[_machine(record)][model].append(record.seed)
    most, *others = sorted(seeds_of, key=lambda machine: sum(map(len, seeds_of[machine].values())), reverse=True)
    return "; ".join([most, *(f"{runs_in_words(seeds_of[machine])} on {machine}" for machine in others)])


def _machine(record: RunRecord) -> str:
    on = record.environment
    threads = f", {plural(on['threads'], 'thread')} a run" if on["device"] == "cpu" else ""
    return f"{on['device_name'] or on['device']} ({record.kind}{threads}, PyTorch {on['torch']})"


def weights_in_words(records: Sequence[RunRecord], own_images: bool = False) -> str:
    """The lines of code that load the weights of the first run of a model.

    The averaged weights if all its runs have them, as `--predict` uses them, else those of the last epoch.
    """
    record = records[0]
    name = record.model_options["class"]
    what, file, others = "weights", WEIGHT_FILES["last"], ""
    if all(record.has_average for record in records):
        what, file = record.averaged_in_words, WEIGHT_FILES["averaged"]
        others = f"`{WEIGHT_FILES['last']}`: last epoch; "
    arguments = [str(record.image_shape), str(len(record.class_names))]
    arguments += [f"{option}={value!r}" for option, value in record.model_options.items() if option != "class"]
    folder = f"runs/{record.task}/{record.kind}/{file_name(record.model)}/{record.config_hash}/seed{record.seed}"
    normalised = "`set.json` beside the images in the data folder says" if own_images else "in `utils/data/specs.py`"
    return (
        f"After training here, the {what} of {record.stem} load with ({others}"
        f"`{WEIGHT_FILES['best']}`: best validation; inputs are normalised as {normalised}):\n\n"
        "    from safetensors.torch import load_file\n"
        f"    from models import {name}\n"
        f"    model = {name}({', '.join(arguments)}); "
        f'model.load_state_dict(load_file("{folder}/{file}")); model.eval()'
    )
