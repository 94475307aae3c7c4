"""Samples of flow maps from their exported state dicts, in PyTorch: what test/export.test.ts compares with.

Reads JSON from standard input: {kind, sizes, file, x, t, s, labels}; `file` holds each tensor as {shape, values} under its
public name. Writes f(x, t, s) as a list. Two networks are written down here as their authors published them, each with the
second time input that docs/export.md describes.
"""
import json
import math
import sys

import torch
import torch.nn.functional as F


def linear(state, name, x):
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def harmonics(t, multiples):
    angles = t[:, None] * torch.tensor([k * math.pi for k in multiples])
    return torch.cat([t[:, None], angles.sin(), angles.cos()], 1)


def jump_hidden(state, t, s, multiples):
    when = torch.cat([harmonics(t, multiples), harmonics(t - s, multiples)], 1)
    return F.silu(linear(state, "jump_embedder.0", when))


def jump_embedding(state, t, s, multiples):
    return linear(state, "jump_embedder.2", jump_hidden(state, t, s, multiples))


def mlp(state, sizes, x, t, s, labels):
    h = torch.cat([0.7 * x, harmonics(t, [1, 2, 4, 8])], 1)
    h = linear(state, "net.0", h) + jump_embedding(state, t, s, [1, 2, 4, 8])
    gains = linear(state, "jump_embedder.gains", jump_hidden(state, t, s, [1, 2, 4, 8])).chunk(sizes["depth"], 1)
    for layer, gain in enumerate(gains):
        h = linear(state, f"net.{2 * layer + 2}", F.silu(h * (1 + gain)))
    return h


def sit(state, sizes, x, t, s, labels):
    width, heads, patch = sizes["hiddenSize"], sizes["numHeads"], sizes["patchSize"]
    frequencies = torch.exp(-math.log(10000) * torch.arange(128) / 128)
    angles = t[:, None] * frequencies
    c = torch.cat([angles.cos(), angles.sin()], 1)
    c = linear(state, "t_embedder.mlp.2", F.silu(linear(state, "t_embedder.mlp.0", c)))
    c = c + jump_embedding(state, t, s, [0.25, 0.5, 1, 2])
    c = c + state["y_embedder.embedding_table.weight"][labels]
    h = F.conv2d(x, state["x_embedder.proj.weight"], state["x_embedder.proj.bias"], stride=patch)
    rows, columns = h.shape[2:]
    h = h.flatten(2).transpose(1, 2) + state["pos_embed"]
    norm = lambda y: F.layer_norm(y, (width,), eps=1e-6)
    for i in range(sizes["depth"]):
        block = f"blocks.{i}"
        parts = linear(state, f"{block}.adaLN_modulation.1", F.silu(c))[:, None].chunk(6, 2)
        y = norm(h) * (1 + parts[1]) + parts[0]
        qkv = linear(state, f"{block}.attn.qkv", y).unflatten(2, (3, heads, width // heads)).permute(2, 0, 3, 1, 4)
        scores = (qkv[0] @ qkv[1].transpose(2, 3)) / math.sqrt(width // heads)
        y = (scores.softmax(-1) @ qkv[2]).transpose(1, 2).flatten(2)
        h = h + parts[2] * linear(state, f"{block}.attn.proj", y)
        y = norm(h) * (1 + parts[4]) + parts[3]
        y = F.gelu(linear(state, f"{block}.mlp.fc1", y), approximate="tanh")
        h = h + parts[5] * linear(state, f"{block}.mlp.fc2", y)
    shift, scale = linear(state, "final_layer.adaLN_modulation.1", F.silu(c))[:, None].chunk(2, 2)
    h = linear(state, "final_layer.linear", norm(h) * (1 + scale) + shift)
    h = h.unflatten(2, (patch, patch, -1)).unflatten(1, (rows, columns))
    return torch.einsum("nhwpqc->nchpwq", h).reshape(x.shape)


case = json.load(sys.stdin)
state = {name: torch.tensor(entry["values"]).reshape(entry["shape"]) for name, entry in case["file"].items()}
x = torch.tensor(case["x"]["values"]).reshape(case["x"]["shape"])
t, s = torch.tensor(case["t"]), torch.tensor(case["s"])
u = {"mlp": mlp, "sit": sit}[case["kind"]](state, case["sizes"], x, t, s, torch.tensor(case["labels"]))
json.dump((x + (s - t).reshape([-1] + [1] * (x.dim() - 1)) * u).flatten().tolist(), sys.stdout)
