# SPDX-License-Identifier: MIT
"""Writes the files of this folder with torch (2.13, CPU): what torch.save wrote and what torch computed.

PYTHONPATH=test python test/importers/data/make_torch_files.py
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_files
from torch import nn
from torch.nn import functional

HERE = Path(__file__).parent


def checkpoint() -> dict[str, Any]:
    """What a training run saves, with tensors of all kinds."""
    base = torch.arange(24.0)
    model = nn.Module()
    model.add_module("encoder", nn.DataParallel(nn.Sequential(nn.Conv2d(1, 2, 1))))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer.zero_grad()
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    state = OrderedDict(
        contiguous=base.reshape(4, 6),
        transposed=base.reshape(4, 6).T,
        part=base[5:11:2],
        expanded=torch.tensor([7.0]).expand(1, 1),
        empty=torch.zeros(0, 3),
        scalar=torch.tensor(3.5),
        half=base[:6].reshape(2, 3).half().T,
        bfloat16=(base[:6] / 8).bfloat16(),
        double=base[:3].double() / 3,
        long=torch.tensor([1, 2, 2**20]),
        parameter=nn.Parameter(torch.ones(2)),
    )
    return {
        "epoch": 17,
        "state_dict": state,
        "parallel_state_dict": model.state_dict(),
        "recalls": {1: np.float64(0.75), 5: np.float64(0.875)},
        "best_score": np.float64(0.875),
        "optimizer": optimizer.state_dict(),
        "parallel": True,
    }


def features(image: torch.Tensor, weights: dict[str, torch.Tensor], prefix: str) -> torch.Tensor:
    """(B, D, h, w) output of the last convolution, which has no ReLU behind it."""
    pooled: dict[int, int]
    strides: tuple[int, ...]
    paddings: tuple[int, ...]
    if weights[f"{prefix}0.weight"].shape[-1] == 11:
        strides, paddings, pooled = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1), {0: 3, 3: 3}
        places = [layer[0] for layer in torch_files.ALEXNET]
    else:
        strides, paddings = (1,) * 13, (1,) * 13
        places = [layer[0] for layer in torch_files.VGG16]
        pooled = {2: 2, 7: 2, 14: 2, 21: 2}
    x = image
    for place, stride, padding in zip(places, strides, paddings, strict=True):
        weight, bias = weights[f"{prefix}{place}.weight"], weights[f"{prefix}{place}.bias"]
        x = functional.conv2d(x, weight, bias, stride=stride, padding=padding)
        if place != places[-1]:
            x = functional.relu(x)
        if place in pooled:
            x = functional.max_pool2d(x, pooled[place], 2)
    return x


def residuals(
    x: torch.Tensor, scores: torch.Tensor, centroids: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """(B, K, D) rows of unit length; scores and centroids are (K, D)."""
    x = functional.normalize(x, dim=1).flatten(2)  # (B, D, N)
    logits = torch.einsum("kd,bdn->bkn", scores, x)
    if bias is not None:
        logits = logits + bias[:, None]
    a = functional.softmax(logits, dim=1)
    difference = x[:, None] - centroids[None, :, :, None]  # (B, K, D, N)
    return functional.normalize((a[:, :, None] * difference).sum(-1), dim=2)


def descriptor(name: str, weights: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
    """(B, dims), by the rules of each project: its input, the order of its rows, its whitening."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    vgg_mean = torch.tensor([123.68, 116.779, 103.939])
    if name in ("hloc", "openibl"):
        prefix, x = "backbone." if name == "hloc" else "base_model.base.", image - vgg_mean
    else:
        prefix, x = "encoder.", (image / 255 - mean) / std
    x = features(x.permute(0, 3, 1, 2), weights, prefix)
    if name in ("max", "avg"):
        return functional.normalize(x.amax((2, 3)) if name == "max" else x.mean((2, 3)), dim=1)
    if name == "hloc":
        rows = residuals(
            x, weights["netvlad.score_proj.weight"][..., 0], weights["netvlad.centers"].T, None
        )
        vlad = functional.normalize(rows.transpose(1, 2).flatten(1), dim=1)  # d-major
        return functional.normalize(
            functional.linear(vlad, weights["whiten.weight"], weights["whiten.bias"]), dim=1
        )
    vlad_name, pca = ("net_vlad", "pca_layer") if name == "openibl" else ("pool", "WPCA.0")
    rows = residuals(
        x,
        weights[f"{vlad_name}.conv.weight"][..., 0, 0],
        weights[f"{vlad_name}.centroids"],
        weights.get(f"{vlad_name}.conv.bias"),
    )
    vlad = functional.normalize(rows.flatten(1), dim=1)  # k-major
    if f"{pca}.weight" not in weights:
        return vlad
    whitened = functional.conv2d(
        vlad[:, :, None, None], weights[f"{pca}.weight"], weights[f"{pca}.bias"]
    )
    return functional.normalize(whitened.flatten(1), dim=1)


def main() -> None:
    torch.manual_seed(0)
    torch.save(checkpoint(), HERE / "zip.pth")
    torch.save(checkpoint(), HERE / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(nn.Linear(2, 1), HERE / "module.pth")
    image = torch.from_numpy(torch_files.picture()).float()
    expected = {}
    for name, arrays in torch_files.networks().items():
        weights = {key: torch.from_numpy(array) for key, array in arrays.items()}
        expected[name] = descriptor(name, weights, image).numpy()
    np.savez_compressed(HERE / "torch_networks.npz", **expected)


if __name__ == "__main__":
    main()
