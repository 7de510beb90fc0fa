"""The devices, the cores and the threads of a command, and of each where several share a machine."""

import argparse
import os

import torch

from utils.command.world import World, world_of_torchrun
from utils.training.device import Execution, check_precision, choose_devices, physical_cores, present

CELLS_A_GPU = 4  # at once: between the kernels of small nets a GPU waits for the processor


def choose_execution(options: argparse.Namespace, cells: int) -> tuple[list[torch.device], int, Execution]:
    """The devices, how many of `cells` run at once, and with what each: its share of the cores, if nothing else is set.

    Finished cells count too, so that a cell gets the same threads whenever it runs. Raises ValueError for a device or a
    precision that isn't there, and for more processes or threads than cores: they would wait for each other.
    """
    world = world_of_torchrun()
    devices, cores = choose_devices(own_device(options, world)), cores_for(world)
    precision = "fp32" if options.precision == "auto" else options.precision
    check_precision(precision, devices[0])
    if not cores and devices[0].type == "cpu":  # more ranks than cores
        return devices, 0, Execution(devices[0], precision, 1)
    cores = max(1, cores)
    for option, value in (("--threads", options.threads), ("--jobs", devices[0].type == "cpu" and options.jobs)):
        if value and value > cores:
            raise ValueError(f"{option} {value}: choose 1 to {cores}, the number of cores that can be used here")
    threads = options.threads or wanted_threads()
    if threads:
        threads = min(threads, cores)
    if devices[0].type == "cpu":
        at_once = cores // threads if threads else cores
    else:
        at_once = len(devices) * max(1, min(CELLS_A_GPU, cores // len(devices)))
    # Of processes that share their work, nobody knows how many there are on the machine.
    processes = options.jobs or (1 if options.shared else max(1, min(at_once, cells)))
    if not threads:
        threads = 1 if options.smoke or options.shared else max(1, cores // processes)
    return devices, processes, Execution(devices[0], precision, threads)


def cores_for(world: World | None) -> int:
    """The cores for this process: its share if there are several ranks on the machine, 0 for those without one."""
    cores = physical_cores()
    return max(cores // world.local_size, int(world.local_rank < cores)) if world else cores


def own_device(options: argparse.Namespace, world: World | None) -> str:
    """The device option for this process: with several GPUs and others that train beside it, its own."""
    place = os.environ.get("SLURM_LOCALID", "") if options.shared else str(world.local_rank) if world else ""
    gpus = present("cuda") if place and options.device in ("auto", "cuda") else []
    return f"cuda:{int(place) % len(gpus)}" if gpus else options.device


def wanted_threads() -> int | None:
    """The threads that OMP_NUM_THREADS asks for, the variable that all numeric libraries honour."""
    value = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(value) if value.isdecimal() and int(value) > 0 else None
