"""Trained networks on disk: half-precision safetensors beside a JSON card.

A card says what the weights are and where they come from (data, recipe, examples seen, hours, hardware, commit,
scores) and holds the SHA-256 of the weights file, which loading verifies. Kernels are stored as they act, so that
weights trained with an equalised learning rate load into the plain network of the paper.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as dump_safetensors

from ctxe_lib.encoder import ContextEncoder
from ctxe_lib.files import write_atomically
from ctxe_lib.geometry import Geometry
from ctxe_lib.hybrid import Hybrid, Options, build_hybrid
from ctxe_lib.networks import Precision, build_network, in_precision
from ctxe_lib.paths import weights_folder

__all__ = [
    "INTERPOLATED",
    "available",
    "kernel_gains",
    "load_encoder",
    "note_test",
    "read_card",
    "relative_to",
    "save_encoder",
    "seeds_of",
    "weight_names",
]


INTERPOLATED = "interpolated magnitudes"
"""What the output of a network that gives a correction is relative to, see :func:`relative_to`."""


def weight_names(model: keras.Model) -> list[str]:
    """Names of a model's variables, ``layer/variable``, in the order of ``model.variables``."""
    names = ["/".join(variable.path.split("/")[-2:]) for variable in model.variables]
    if len(set(names)) != len(names):
        raise ValueError(f"model {model.name!r} has two variables of one name")
    return names


def kernel_gains(model: keras.Model) -> dict[str, float]:
    """Factors between stored and effective kernels by variable name."""
    return {f"{layer.name}/kernel": layer.gain for layer in model.layers if getattr(layer, "gain", 1.0) != 1.0}


def save_encoder(encoder: ContextEncoder | Hybrid, name: str, card: dict[str, Any], folder: Path | None = None) -> Path:
    """Store a network's weights in half precision, with their card.

    Parameters
    ----------
    encoder : ContextEncoder or Hybrid
    name : str
        File stem, such as ``music-magnitude``.
    card : dict
        Provenance and scores; kind, geometry, level or options, and the SHA-256 are added.
    folder : Path, optional
        ``weights/`` by default.

    Returns
    -------
    Path
        Of the card.

    Raises
    ------
    ValueError
        If a weight is not finite or too large for half precision.
    """
    folder = folder or weights_folder()
    gains = kernel_gains(encoder.model)
    tensors: dict[str, np.ndarray] = {}
    for key, variable in zip(weight_names(encoder.model), encoder.model.variables, strict=True):
        effective = np.asarray(variable) * gains.get(key, 1.0)
        with np.errstate(over="ignore"):
            half = effective.astype(np.float16)
        if not np.isfinite(half).all():
            raise ValueError(f"{name}: {key} does not fit half precision (largest {np.abs(effective).max():g})")
        tensors[key] = half
    content = dump_safetensors(tensors)
    description = {
        "name": name,
        "kind": encoder.kind,
        "geometry": encoder.geometry.to_dict(),
        **encoder.card(),
        "sha256": hashlib.sha256(content).hexdigest(),
        **card,
    }
    write_atomically(folder / f"{name}.safetensors", content)
    path = folder / f"{name}.json"
    write_atomically(path, (json.dumps(description, indent=2) + "\n").encode())
    return path


def available(folder: Path | None = None) -> list[str]:
    """Names of the trained networks in a folder (``weights/`` by default), sorted."""
    folder = folder or weights_folder()
    return sorted(path.stem for path in folder.glob("*.json") if path.with_suffix(".safetensors").exists())


def seeds_of(name: str, folder: Path | None = None) -> list[str]:
    """Names of a network and of those trained as it was from other seeds, ``<name>-seed-<seed>``; those there are."""
    return [other for other in available(folder) if other == name or other.startswith(f"{name}-seed-")]


def read_card(name: str, folder: Path | None = None) -> dict[str, Any]:
    """Read a network's card.

    Raises
    ------
    FileNotFoundError
        If there is no such network; the message names those there are.
    """
    folder = folder or weights_folder()
    path = folder / f"{name}.json"
    if not path.exists():
        there = ", ".join(available(folder)) or "none"
        raise FileNotFoundError(
            f"no trained network {name!r} in {folder} (there: {there}); `ctxe train --help` makes one"
        )
    card: dict[str, Any] = json.loads(path.read_text())
    return card


def relative_to(card: Mapping[str, Any]) -> str:
    """In words, what a network's output is relative to: the part of its result that is not learnt; empty if there is
    none, as in the paper.

    See :func:`ctxe_lib.encoder.interpolated_magnitudes` and :func:`ctxe_lib.encoder.continued_phases`.
    """
    if card.get("output") == "correction":
        return INTERPOLATED
    return "a phase vocoder's phases" if card["kind"] == "complex" and card["phases"] == "continued" else ""


def note_test(name: str, corpus: str, scores: dict[str, Any], folder: Path | None = None) -> None:
    """Note in a network's card what it reached on the test split of a corpus, with intervals (95 %)."""
    folder = folder or weights_folder()
    card = read_card(name, folder)
    card["test"] = {**card.get("test", {}), corpus: scores}
    write_atomically(folder / f"{name}.json", (json.dumps(card, indent=2) + "\n").encode())


def load_encoder(
    name: str,
    folder: Path | None = None,
    *,
    layers: Literal["auto", "plain", "fast"] = "auto",
    precision: Precision = "single",
) -> tuple[ContextEncoder | Hybrid, dict[str, Any]]:
    """Load a trained network by name and verify its hash.

    Parameters
    ----------
    name : str
        Such as ``music-magnitude``.
    folder : Path, optional
        ``weights/`` by default.
    layers : {'auto', 'plain', 'fast'}
        See :func:`ctxe_lib.networks.build_network`; a hybrid has one kind of layers.
    precision : {'single', 'mixed'}
        See :data:`ctxe_lib.networks.Precision`; ``mixed`` changes the mean SNR of the shipped networks by less
        than 0.1 dB, that of single gaps by less than 0.3 dB, on processors with instructions for bfloat16.

    Returns
    -------
    encoder : ContextEncoder or Hybrid
    card : dict

    Raises
    ------
    FileNotFoundError
        If there is no such network.
    ValueError
        If the weights are not those the card describes, or do not fit the network; or if a hybrid is of another
        version of :class:`ctxe_lib.hybrid.Options`.
    """
    folder = folder or weights_folder()
    card = read_card(name, folder)
    path = folder / f"{name}.safetensors"
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != card["sha256"]:
        raise ValueError(
            f"{path} has SHA-256 {digest}, its card says {card['sha256']}: restore both files from one commit"
        )
    tensors = parse_safetensors(content)
    geometry = Geometry(**card["geometry"])
    encoder: ContextEncoder | Hybrid
    if card["kind"] == "hybrid":
        options = _hybrid_options(card, name)
        model = in_precision(precision, lambda: build_hybrid(options, geometry))
        encoder = Hybrid(model, geometry, options)
    else:
        model = in_precision(precision, lambda: build_network(card["kind"], geometry, layers=layers))
        rules = card["level"], card["phases"], card.get("output", "whole")  # older cards knew no other
        encoder = ContextEncoder(model, geometry, card["kind"], *rules)
    names = weight_names(model)
    if set(names) != set(tensors):
        raise ValueError(f"{path} does not hold this network's weights: {sorted(set(names) ^ set(tensors))[:4]} differ")
    for key, variable in zip(names, model.variables, strict=True):
        if tensors[key].shape != tuple(variable.shape):
            raise ValueError(f"{path}: {key} has shape {tensors[key].shape}, the network wants {tuple(variable.shape)}")
        variable.assign(tensors[key].astype(np.float32))
    return encoder, card


def _hybrid_options(card: dict[str, Any], name: str) -> Options:
    """Options of a hybrid's card; a default may have changed since, so a card that leaves one open is refused."""
    differing = {field.name for field in fields(Options)} ^ set(card["options"])
    if differing:
        raise ValueError(
            f"the card of {name} is of another version of the hybrid, which differs in the options "
            f"{', '.join(sorted(differing))}: take the weights that belong to this version, or train anew"
        )
    return Options(**card["options"])
