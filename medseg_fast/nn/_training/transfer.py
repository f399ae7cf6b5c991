"""Learning that begins with what was learnt before: other weights, slower rates, masked images."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from medseg_fast import nn as networks
from medseg_fast.data import PatchSampler
from medseg_fast.nn._blocks import Network, fraction, positive
from medseg_fast.nn._lenet import LeNet5
from medseg_fast.nn._modes import evaluated
from medseg_fast.nn._training.fit import FitResult, fit, sampler


def layer_rates(network: Network, decay: float = 0.8, *, size: int = 32) -> dict[str, float]:
    """Factors of the learning rate that fall from the last layer to the first, for `fit`.

    Parameters
    ----------
    network : Network
        One of `medseg_fast.nn`.
    decay : float, optional
        The factor from one layer to the one before it. Layers are what has a convolution or matrix,
        in the order in which they are called; a norm learns as fast as the layer before it. Heads
        that only training has learn as fast as the last.
    size : int, optional
        Pixels per axis of the image by which the order is found.

    Returns
    -------
    rates : dict
        By parameter name; 1 for the last layer.

    References
    ----------
    .. [1] J. Howard and S. Ruder, "Universal language model fine-tuning for text classification",
       ACL 2018, pp. 328-339.

    Examples
    --------
    >>> from medseg_fast import nn
    >>> rates = nn.layer_rates(nn.unet(1, 2, widths=(4, 8), padding="same"), 0.5)
    >>> rates["head.weight"], rates["decoder.0.conv2.weight"], rates["encoder.0.conv1.bias"]
    (1.0, 0.5, 0.0078125)
    """
    if not 0 < decay <= 1:
        raise ValueError(f"layer_rates: decay must be in (0, 1], got {decay}")
    names = {module: name for name, module in network.named_modules()}
    called: list[nn.Module] = []

    def note(module: nn.Module, *_: Any) -> None:
        if module not in called:
            called.append(module)

    own = [m for m in names if next(m.parameters(recurse=False), None) is not None]
    handles = [module.register_forward_pre_hook(note) for module in own]
    first = next(network.parameters())
    shape = (1, network.in_channels, *network_sizes(network, size))
    try:
        # Without gradients kernels of ours stand for some modules.
        with evaluated(network), torch.enable_grad():
            network(torch.zeros(shape, device=first.device, dtype=first.dtype))
    finally:
        for handle in handles:
            handle.remove()
    depth: dict[nn.Module, int] = {}
    for module in called:
        grows = any(p.ndim > 1 for p in module.parameters(recurse=False)) or not depth
        depth[module] = max(depth.values(), default=-1) + int(grows)
    last = max(depth.values())
    depth = {module: depth.get(module, last) for module in own}
    return {
        f"{names[module]}.{name}" if names[module] else name: decay ** (last - depth[module])
        for module in own
        for name, _ in module.named_parameters(recurse=False)
    }


def network_sizes(network: Network, size: int) -> tuple[int, ...]:
    """The smallest input of at least so many pixels that the network takes."""
    return (network.sizes(size)[0],) * network.ndim


def transfer(source: nn.Module, target: nn.Module) -> list[str]:
    """Copy the weights whose names and shapes agree; heads for other classes stay as they are.

    Parameters
    ----------
    source, target : nn.Module
        Networks of one architecture, but perhaps of other classes.

    Returns
    -------
    missing : list of str
        What `target` has and did not get.

    Raises
    ------
    ValueError
        If nothing agrees.
    """
    given, own = source.state_dict(), target.state_dict()
    fitting = {
        name: value
        for name, value in given.items()
        if name in own and own[name].shape == value.shape
    }
    if not fitting:
        raise ValueError("transfer: source has no weight of a name and shape that target has")
    target.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


class _Masked:
    """Batches of images with blocks hidden, and the images as they were."""

    def __init__(self, patches: PatchSampler, hidden: float, block: int) -> None:
        self.patches, self.hidden, self.block = patches, hidden, block

    def __len__(self) -> int:
        return len(self.patches)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Images (N, C, ...), and behind the channels they had a last one: what is hidden."""
        images = torch.from_numpy(self.patches(step)[0])
        rng = np.random.default_rng((self.patches.seed, 3, step))
        spatial = images.shape[2:]
        blocks = [-(-n // self.block) for n in spatial]
        drawn = torch.from_numpy(rng.random((len(images), 1, *blocks)) < self.hidden)
        for axis, n in enumerate(spatial, 2):
            drawn = drawn.repeat_interleave(self.block, axis).narrow(axis, 0, n)
        return images.masked_fill(drawn, 0.0), torch.cat([images, drawn.float()], 1)


def _reconstruction(network: nn.Module, images: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error where pixels were hidden, the mean of those of several outputs."""
    whole, hidden = truth[:, :-1], truth[:, -1:]
    answer = network(images)
    found = torch.stack(answer if isinstance(answer, tuple) else (answer,)).float()
    weight = hidden.expand_as(found)
    error: Tensor = ((found - whole).square() * weight).sum() / weight.sum().clamp(min=1)
    return error


def pretrain(
    network: Network,
    images: Sequence[ArrayLike],
    *,
    batch: int = 2,
    patch: int | Sequence[int] | None = None,
    hidden: float = 0.6,
    block: int = 8,
    seed: int = 0,
    **options: Any,
) -> FitResult:
    """Warm start without labels: learn to fill in hidden blocks of images.

    Parameters
    ----------
    network : Network
        One of `medseg_fast.nn` whose output has the size of its input; its weights are replaced,
        but for the head, which depends on the classes.
    images : sequence of array_like
        (channels, ...) or (...), prepared as for training (mean 0, deviation about 1): what is
        hidden is 0. Labels are not needed, so all images there are may serve.
    batch, patch : optional
        As in `fit`.
    hidden : float, optional
        Part of the blocks that is hidden.
    block : int, optional
        Pixels of a block along each axis.
    seed : int, optional
        Of places and blocks, and of `fit`.
    **options
        As in `fit`: ``steps``, ``rate``, ``folder`` and so on.

    Returns
    -------
    result : FitResult
        As of `fit`; the loss is the mean squared error of hidden pixels.

    Notes
    -----
    A twin of the network with one class per channel learns; then `transfer` takes its weights.

    References
    ----------
    .. [1] K. He et al., "Masked autoencoders are scalable vision learners", CVPR 2022,
       pp. 16000-16009. Here with convolutions, which see hidden blocks as zeros.
    .. [2] Z. Zhou et al., "Models Genesis", Medical Image Analysis 67 (2021) 101840.
    """
    op = "pretrain"
    architecture = getattr(network, "architecture", None)
    labels_pixels = isinstance(network, Network) and not isinstance(network, LeNet5)
    if architecture is None or not labels_pixels or network.margin:
        raise ValueError(
            f"{op}: network must be of medseg_fast.nn, with an output of the size of its input"
        )
    fraction(op, "hidden", hidden)
    positive(op, block=block)
    channels = network.in_channels
    cases = []
    for image in images:
        pixels = np.asarray(image)
        if pixels.ndim == network.ndim:
            pixels = pixels[None]
        cases.append((pixels, np.zeros(pixels.shape[1:], np.uint8)))
    module = import_module(f"{networks.__name__}.{networks._NETWORKS[architecture.network]}")
    make = getattr(module, architecture.network)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        twin = make(**{**architecture.arguments, "classes": channels})
    transfer(network, twin)
    twin.to(next(network.parameters()).device)
    with torch.device("meta"):
        other = make(**{**architecture.arguments, "classes": channels + 1}).state_dict()
    positive(op, batch=batch)
    masked = _Masked(sampler(op, cases, batch, patch, seed), hidden, block)
    result = fit(twin, masked, objective=_reconstruction, seed=seed, **options)
    own = network.state_dict()
    learnt = {
        name: value
        for name, value in twin.state_dict().items()
        if other[name].shape == value.shape and own[name].shape == value.shape
    }
    network.load_state_dict(learnt, strict=False)
    return result
