"""The networks of diffusers' and transformers' folders as their papers and documentation describe them, in PyTorch and
float64: the oracle of test/diffusers-components.test.ts.

Reads JSON from standard input, a list of {network, options, weights, inputs, slopes}, tensors as {shape, values}. Writes
for each {outputs, gradients}: the gradients of sum(output * slope) over all outputs, with respect to the inputs that have
no whole numbers and to all weights.
"""
import json
import math
import sys

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)

ACTIVATIONS = {
    "silu": F.silu,
    "relu": F.relu,
    "mish": F.mish,
    "gelu": F.gelu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
}


class Layers:
    """Layers by the names of their weights."""

    def __init__(self, weights):
        self.w = weights

    def linear(self, name, x):
        return F.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))

    def conv(self, name, x, **options):
        return F.conv2d(x, self.w[name + ".weight"], self.w.get(name + ".bias"), **options)

    def group_norm(self, name, x, groups):
        return F.group_norm(x, groups, self.w[name + ".weight"], self.w[name + ".bias"], 1e-6)

    def layer_norm(self, name, x, eps):
        return F.layer_norm(x, x.shape[-1:], self.w.get(name + ".weight"), self.w.get(name + ".bias"), eps)

    def attend(self, x, names, out, heads, causal=False):
        b, n, c = x.shape
        q, k, v = [self.linear(name, x).reshape(b, n, heads, -1).transpose(1, 2) for name in names]
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        if causal:
            scores = scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -math.inf)
        return self.linear(out, (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))


def autoencoder_kl(layers, o, x, latents):
    act, groups, widths = ACTIVATIONS[o["act_fn"]], o["norm_num_groups"], o["block_out_channels"]

    def resnet(name, x):
        h = layers.conv(name + ".conv1", act(layers.group_norm(name + ".norm1", x, groups)), padding=1)
        h = layers.conv(name + ".conv2", act(layers.group_norm(name + ".norm2", h, groups)), padding=1)
        return h + (layers.conv(name + ".conv_shortcut", x) if name + ".conv_shortcut.weight" in layers.w else x)

    def attention(name, x):
        tokens = layers.group_norm(name + ".group_norm", x, groups).flatten(2).transpose(1, 2)
        names = [f"{name}.to_{part}" for part in "qkv"]
        return x + layers.attend(tokens, names, name + ".to_out.0", 1).transpose(1, 2).reshape(x.shape)

    def level(name, x, count, attended):
        for i in range(count):
            x = resnet(f"{name}.resnets.{i}", x)
            x = attention(f"{name}.attentions.{i}", x) if attended else x
        return x

    def middle(name, x):
        x = resnet(name + ".resnets.0", x)
        x = attention(name + ".attentions.0", x) if o["mid_block_add_attention"] else x
        return resnet(name + ".resnets.1", x)

    def head(name, x):
        return layers.conv(name + ".conv_out", F.silu(layers.group_norm(name + ".conv_norm_out", x, groups)), padding=1)

    h = layers.conv("encoder.conv_in", x, padding=1)
    for i in range(len(widths)):
        name = f"encoder.down_blocks.{i}"
        h = level(name, h, o["layers_per_block"], o["down_block_types"][i].startswith("Attn"))
        if i < len(widths) - 1:
            h = layers.conv(name + ".downsamplers.0.conv", F.pad(h, (0, 1, 0, 1)), stride=2)
    moments = head("encoder", middle("encoder.mid_block", h))
    moments = layers.conv("quant_conv", moments) if o["use_quant_conv"] else moments
    h = layers.conv("post_quant_conv", latents) if o["use_post_quant_conv"] else latents
    h = middle("decoder.mid_block", layers.conv("decoder.conv_in", h, padding=1))
    for i in range(len(widths)):
        name = f"decoder.up_blocks.{i}"
        h = level(name, h, o["layers_per_block"] + 1, o["up_block_types"][i].startswith("Attn"))
        if i < len(widths) - 1:
            h = layers.conv(name + ".upsamplers.0.conv", F.interpolate(h, scale_factor=2.0), padding=1)
    return {"moments": moments, "decoded": head("decoder", h)}


def autoencoder_tiny(layers, o, x, latents):
    act = ACTIVATIONS[o["act_fn"]]

    def block(name, x):
        h = layers.conv(name + ".conv.0", x, padding=1)
        h = layers.conv(name + ".conv.2", act(h), padding=1)
        return F.relu(layers.conv(name + ".conv.4", act(h), padding=1) + x)

    h, place = (x + 1) / 2, 0
    for i, count in enumerate(o["num_encoder_blocks"]):
        h = layers.conv(f"encoder.layers.{place}", h, padding=1, stride=2 if i else 1)
        for k in range(count):
            h = block(f"encoder.layers.{place + 1 + k}", h)
        place += 1 + count
    encoded = layers.conv(f"encoder.layers.{place}", h, padding=1)
    h = act(layers.conv("decoder.layers.0", torch.tanh(latents / 3) * 3, padding=1))
    place, counts = 2, o["num_decoder_blocks"]
    for i, count in enumerate(counts):
        for k in range(count):
            h = block(f"decoder.layers.{place + k}", h)
        place += count
        if i < len(counts) - 1:
            h = F.interpolate(h, scale_factor=float(o["upsampling_scaling_factor"]), mode=o["upsample_fn"])
            place += 1
        h = layers.conv(f"decoder.layers.{place}", h, padding=1)
        place += 1
    return {"encoded": encoded, "decoded": h * 2 - 1}


def clip_text(layers, o, tokens):
    eps, act = o["layer_norm_eps"], ACTIVATIONS[o["hidden_act"]]
    places = layers.w["text_model.embeddings.position_embedding.weight"][: tokens.shape[1]]
    h = layers.w["text_model.embeddings.token_embedding.weight"][tokens] + places
    for i in range(o["num_hidden_layers"]):
        name = f"text_model.encoder.layers.{i}"
        names = [f"{name}.self_attn.{part}_proj" for part in "qkv"]
        seen = layers.layer_norm(name + ".layer_norm1", h, eps)
        h = h + layers.attend(seen, names, name + ".self_attn.out_proj", o["num_attention_heads"], True)
        inner = act(layers.linear(name + ".mlp.fc1", layers.layer_norm(name + ".layer_norm2", h, eps)))
        h = h + layers.linear(name + ".mlp.fc2", inner)
    last = layers.layer_norm("text_model.final_layer_norm", h, eps)
    end = o["eos_token_id"]
    found = tokens if end == 2 else (tokens == end).long()
    pooled = last[torch.arange(len(tokens)), [row.index(max(row)) for row in found.tolist()]]
    return {"last": last, "pooled": pooled, "projected": layers.linear("text_projection", pooled)}


def dit(layers, o, x, time, labels):
    (b, _, *size), patch, width = x.shape, o["patch_size"], o["num_attention_heads"] * o["attention_head_dim"]
    grid = [side // patch for side in size]
    h = layers.conv("pos_embed.proj", x, stride=patch).flatten(2).transpose(1, 2)

    def waves(count, at):
        angles = at[:, None] / 10000 ** (torch.arange(count) / count)
        return torch.cat([angles.sin(), angles.cos()], 1)

    base = o.get("trained_size", size[0]) // patch
    rows, columns = [torch.arange(n).double() * base / n for n in grid]
    h = h + torch.cat([waves(width // 4, columns.repeat(grid[0])), waves(width // 4, rows.repeat_interleave(grid[1]))], 1)
    angles = time[:, None] * torch.exp(-math.log(10000) * torch.arange(128) / 127)
    sinusoid = torch.cat([angles.cos(), angles.sin()], 1)

    def condition(name):
        hidden = F.silu(layers.linear(name + ".timestep_embedder.linear_1", sinusoid))
        table = layers.w[name + ".class_embedder.embedding_table.weight"]
        return F.silu(layers.linear(name + ".timestep_embedder.linear_2", hidden) + table[labels])[:, None]

    def feed(name, x):
        inner = layers.linear(name + ".net.0.proj", x)
        if o["activation_fn"] == "geglu":
            value, gate = inner.chunk(2, -1)
            inner = value * F.gelu(gate)
        else:
            inner = {"gelu": F.gelu, "geglu-approximate": ACTIVATIONS["quick_gelu"]}[o["activation_fn"]](inner)
        return layers.linear(name + ".net.2", inner)

    for i in range(o["num_layers"]):
        name = f"transformer_blocks.{i}"
        shift, scale, gate, shift2, scale2, gate2 = layers.linear(
            name + ".norm1.linear", condition(name + ".norm1.emb")
        ).chunk(6, -1)
        names = [f"{name}.attn1.to_{part}" for part in "qkv"]
        seen = layers.layer_norm("", h, 1e-6) * (1 + scale) + shift
        h = h + gate * layers.attend(seen, names, name + ".attn1.to_out.0", o["num_attention_heads"])
        h = h + gate2 * feed(name + ".ff", layers.layer_norm(name + ".norm3", h, o["norm_eps"]) * (1 + scale2) + shift2)
    shift, scale = layers.linear("proj_out_1", condition("transformer_blocks.0.norm1.emb")).chunk(2, -1)
    h = layers.linear("proj_out_2", layers.layer_norm("", h, 1e-6) * (1 + scale) + shift)
    h = h.reshape(b, *grid, patch, patch, -1)
    return {"out": torch.einsum("nhwpqc->nchpwq", h).reshape(b, -1, *size)}


NETWORKS = {"AutoencoderKL": autoencoder_kl, "AutoencoderTiny": autoencoder_tiny, "CLIPText": clip_text, "DiT": dit}


def run(case):
    def made(tensor):
        return torch.tensor(tensor["values"]).reshape(tensor["shape"])

    weights = {name: made(tensor).requires_grad_() for name, tensor in case["weights"].items()}
    inputs = [made(tensor) if tensor["real"] else made(tensor).long() for tensor in case["inputs"]]
    for tensor in inputs:
        tensor.requires_grad_(tensor.is_floating_point())
    outputs = NETWORKS[case["network"]](Layers(weights), case["options"], *inputs)
    loss = sum((outputs[name] * made(slope)).sum() for name, slope in case["slopes"].items())
    real = [tensor for tensor in inputs if tensor.requires_grad]
    slopes = torch.autograd.grad(loss, [*real, *weights.values()])
    return {
        "outputs": {name: tensor.flatten().tolist() for name, tensor in outputs.items()},
        "gradients": [slope.flatten().tolist() for slope in slopes],
    }


json.dump([run(case) for case in json.load(sys.stdin)], sys.stdout)
