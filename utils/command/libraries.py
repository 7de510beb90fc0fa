"""Classifiers of torchvision and timm as models of this suite: no pretrained weights, nothing downloaded."""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import nn

SIZES = (32, 64, 96, 128, 160, 192, 224, 256, 299, 384)  # pixels, for nets that can't take smaller images
WITH_AUXILIARY_LOGITS = ("googlenet", "inception_v3")  # in training mode these return them as well, unless told not to


def torchvision_classifier(image_shape: tuple[int, int, int], num_classes: int, architecture: str) -> nn.Module:
    """torchvision's `architecture` for images (C, H, W) and K classes, enlarged to what it needs at least."""
    return _enlarging(_make_torchvision, image_shape, num_classes, architecture)


def timm_classifier(image_shape: tuple[int, int, int], num_classes: int, architecture: str) -> nn.Module:
    """timm's `architecture` for images (C, H, W) and K classes, enlarged to what it needs at least."""
    return _enlarging(_make_timm, image_shape, num_classes, architecture)


def _make_torchvision(architecture: str, channels: int, num_classes: int) -> nn.Module:
    from torchvision.models import get_model

    options = {"aux_logits": False, "init_weights": True} if architecture in WITH_AUXILIARY_LOGITS else {}
    model = get_model(architecture, weights=None, num_classes=num_classes, **options)
    if channels != 3:
        _fit_first_convolution(model, channels)
    return model


def _make_timm(architecture: str, channels: int, num_classes: int) -> nn.Module:
    import timm

    return timm.create_model(architecture, pretrained=False, num_classes=num_classes, in_chans=channels)


def _fit_first_convolution(model: nn.Module, channels: int) -> None:
    """Replace the first convolution by one for images with `channels` channels; torchvision has no option for it."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and child.in_channels == 3:
                shape = ("out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
                settings = {field: getattr(child, field) for field in shape}
                setattr(parent, name, nn.Conv2d(channels, **settings, bias=child.bias is not None))
                return


def _enlarging(make: Callable, image_shape: tuple[int, int, int], num_classes: int, architecture: str) -> nn.Module:
    size = needed_size(make, architecture, image_shape, num_classes)
    model = make(architecture, image_shape[0], num_classes)
    if size is None:
        return model
    return nn.Sequential(nn.Upsample(size=(size, size), mode="bilinear"), model)


@lru_cache
def needed_size(make: Callable, architecture: str, image_shape: tuple[int, int, int], num_classes: int) -> int | None:
    """The smallest of SIZES to which images must be enlarged; None if they needn't be, or if none of them will do.

    Tried on the meta device, where tensors have shapes but no values.
    """
    channels, height, width = image_shape
    sizes = [None, *(size for size in SIZES if size > max(height, width))]
    try:
        with torch.device("meta"):
            model = make(architecture, channels, num_classes)
    except Exception:
        return None  # the real one will say why
    for size in sizes:
        shape = (2, channels, size or height, size or width)
        try:
            model(torch.zeros(shape, device="meta"))
        except Exception:
            continue
        return size
    return None


def enlargement(model: nn.Module) -> str:
    """Such as "64 x 64", the size to which the model enlarges its images; "" if it doesn't."""
    if isinstance(model, nn.Sequential) and isinstance(model[0], nn.Upsample):
        return " x ".join(map(str, model[0].size))
    return ""
