"""UNets of diffusers in PyTorch, in float64: the oracle of test/diffusers-folders.test.ts.

Written from the description of the classes, on their state dicts: nothing of it is shared with what it judges. Reads JSON
from standard input, a list of {condition, config, state: {name: {shape, values}}, x, t, context, guidance, cls}; writes a
list of {out, gradients: {x, context}} for the loss sum(out * weights).
"""
import json
import math
import sys

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
ACTIVATIONS = {"silu": F.silu, "swish": F.silu, "gelu": F.gelu, "relu": F.relu, "mish": F.mish}


def tensor(entry):
    return torch.tensor(entry["values"], dtype=torch.float64).reshape(entry["shape"])


class Net:
    def __init__(self, config, state, condition):
        self.c, self.s, self.condition = config, state, condition
        self.act = ACTIVATIONS[config.get("act_fn", "silu")]

    def has(self, name):
        return name + ".weight" in self.s

    def lin(self, name, x):
        w = self.s[name + ".weight"]
        return F.linear(x, w.flatten(1), self.s.get(name + ".bias"))

    def conv(self, name, x, stride=1, padding=1):
        return F.conv2d(x, self.s[name + ".weight"], self.s[name + ".bias"], stride=stride, padding=padding)

    def group(self, name, x, eps, groups=None):
        groups = groups or self.c["norm_num_groups"]
        return F.group_norm(x, groups, self.s[name + ".weight"], self.s[name + ".bias"], eps)

    def layer(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self.s[name + ".weight"], self.s[name + ".bias"], 1e-5)

    def sinusoid(self, t):
        width = self.c["block_out_channels"][0]
        half = width // 2
        rates = torch.exp(-math.log(10000) * torch.arange(half) / (half - self.c["freq_shift"]))
        angle = t[:, None] * rates
        parts = [angle.cos(), angle.sin()] if self.c["flip_sin_to_cos"] else [angle.sin(), angle.cos()]
        emb = torch.cat(parts, 1)
        return F.pad(emb, (0, 1)) if width % 2 else emb

    def perceptron(self, name, x, act):
        return self.lin(name + ".linear_2", act(self.lin(name + ".linear_1", x)))

    def resnet(self, name, x, emb, scale=1.0, change=None):
        eps = self.c["norm_eps"]
        h = self.act(self.group(name + ".norm1", x, eps))
        if change == "up":
            x, h = (F.interpolate(v, scale_factor=2.0, mode="nearest") for v in (x, h))
        if change == "down":
            x, h = (F.avg_pool2d(v, 2) for v in (x, h))
        h = self.conv(name + ".conv1", h)
        e = self.lin(name + ".time_emb_proj", self.act(emb))[:, :, None, None]
        if self.c["resnet_time_scale_shift"] == "scale_shift":
            by, to = e.chunk(2, 1)
            h = self.group(name + ".norm2", h, eps) * (1 + by) + to
        else:
            h = self.group(name + ".norm2", h + e, eps)
        h = self.conv(name + ".conv2", self.act(h))
        if self.has(name + ".conv_shortcut"):
            x = self.conv(name + ".conv_shortcut", x, padding=0)
        return (x + h) / scale

    def attend(self, name, x, keys, heads):
        q, k, v = (self.lin(f"{name}.to_{part}", of) for part, of in (("q", x), ("k", keys), ("v", keys)))
        q, k, v = (z.unflatten(-1, (heads, -1)).transpose(1, 2) for z in (q, k, v))
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.lin(name + ".to_out.0", (weights @ v).transpose(1, 2).flatten(2))

    def pixels(self, name, x, head, groups, scale=1.0):
        h = self.group(name + ".group_norm", x, self.c["norm_eps"], groups) if groups else x
        h = h.flatten(2).transpose(1, 2)
        h = self.attend(name, h, h, x.shape[1] // head)
        return (h.transpose(1, 2).reshape(x.shape) + x) / scale

    def transformer(self, name, x, heads, cross):
        h = self.group(name + ".norm", x, 1e-6).flatten(2).transpose(1, 2)
        h = self.lin(name + ".proj_in", h)
        i = 0
        while self.has(f"{name}.transformer_blocks.{i}.norm1"):
            block = f"{name}.transformer_blocks.{i}"
            n = self.layer(block + ".norm1", h)
            h = h + self.attend(block + ".attn1", n, self.context if cross else n, heads)
            h = h + self.attend(block + ".attn2", self.layer(block + ".norm2", h), self.context, heads)
            value, gate = self.lin(block + ".ff.net.0.proj", self.layer(block + ".norm3", h)).chunk(2, -1)
            h = h + self.lin(block + ".ff.net.2", value * F.gelu(gate))
            i += 1
        return self.lin(name + ".proj_out", h).transpose(1, 2).reshape(x.shape) + x

    def per(self, key, i):
        value = self.c[key]
        return value[i] if isinstance(value, list) else value

    def head(self, width, i=0):
        value = self.per("attention_head_dim", i)
        return width if value is None else value

    def beside(self, kind, name, x, level, place):
        """The attention that follows a residual block."""
        if kind.startswith("CrossAttn"):
            heads = self.per("num_attention_heads", level) or self.per("attention_head_dim", level)
            return self.transformer(name, x, heads, self.per("only_cross_attention", level))
        if kind.startswith("Attn"):
            return self.pixels(name, x, self.head(x.shape[1], place), self.c["norm_num_groups"])
        return x

    def middle(self, h, emb):
        kind, scale, name = self.c["mid_block_type"], self.c["mid_block_scale_factor"], "mid_block"
        if kind is None:
            return h
        h = self.resnet(name + ".resnets.0", h, emb, scale)
        last = len(self.c["block_out_channels"]) - 1
        if kind == "UNetMidBlock2DCrossAttn":
            heads = self.per("num_attention_heads", last) or self.per("attention_head_dim", last)
            h = self.transformer(name + ".attentions.0", h, heads, False)
        elif self.condition:
            return h
        elif self.c["add_attention"]:
            plain = self.c["resnet_time_scale_shift"] == "default"
            groups = self.c["attn_norm_num_groups"] or (self.c["norm_num_groups"] if plain else None)
            h = self.pixels(name + ".attentions.0", h, self.head(h.shape[1]), groups, scale)
        return self.resnet(name + ".resnets.1", h, emb, scale)

    def __call__(self, x, t, context, guidance, cls):
        c, self.context = self.c, context
        act = self.act if self.condition else F.silu
        seen = self.sinusoid(t)
        if guidance is not None:
            seen = seen + self.lin("time_embedding.cond_proj", guidance)
        emb = self.perceptron("time_embedding", seen, act)
        if c.get("timestep_post_act"):
            emb = ACTIVATIONS[c["timestep_post_act"]](emb)
        kind = c["class_embed_type"]
        if kind == "timestep":
            emb = emb + self.perceptron("class_embedding", self.sinusoid(cls[:, 0]), F.silu)
        elif kind == "identity":
            emb = emb + cls
        elif kind == "projection":
            emb = emb + self.perceptron("class_embedding", cls, F.silu)
        elif kind == "simple_projection":
            emb = emb + self.lin("class_embedding", cls)
        elif c["num_class_embeds"]:
            emb = emb + self.s["class_embedding.weight"][cls[:, 0].long()]
        if c.get("time_embedding_act_fn"):
            emb = ACTIVATIONS[c["time_embedding_act_fn"]](emb)
        if c["center_input_sample"]:
            x = 2 * x - 1
        h = self.conv("conv_in", x, padding=(c.get("conv_in_kernel", 3) - 1) // 2)
        kept, levels = [h], len(c["block_out_channels"])
        for i, kind in enumerate(c["down_block_types"]):
            name = f"down_blocks.{i}"
            for j in range(self.per("layers_per_block", i)):
                h = self.resnet(f"{name}.resnets.{j}", h, emb)
                h = self.beside(kind, f"{name}.attentions.{j}", h, i, i)
                kept.append(h)
            if i < levels - 1:
                sampler = name + ".downsamplers.0"
                if self.has(sampler + ".conv1"):
                    h = self.resnet(sampler, h, emb, change="down")
                else:
                    around = c["downsample_padding"]
                    h = self.conv(sampler + ".conv", h if around else F.pad(h, (0, 1, 0, 1)), 2, around)
                kept.append(h)
        h = self.middle(h, emb)
        for i, kind in enumerate(c["up_block_types"]):
            name, level = f"up_blocks.{i}", levels - 1 - i
            for j in range(self.per("layers_per_block", level) + 1):
                h = self.resnet(f"{name}.resnets.{j}", torch.cat([h, kept.pop()], 1), emb)
                h = self.beside(kind, f"{name}.attentions.{j}", h, level, i)
            if i < levels - 1:
                sampler = name + ".upsamplers.0"
                if self.has(sampler + ".conv1"):
                    h = self.resnet(sampler, h, emb, change="up")
                else:
                    h = self.conv(sampler + ".conv", F.interpolate(h, size=kept[-1].shape[2:], mode="nearest"))
        act = self.act if self.condition else F.silu
        h = act(self.group("conv_norm_out", h, c["norm_eps"]))
        return self.conv("conv_out", h, padding=(c.get("conv_out_kernel", 3) - 1) // 2)


def run(case):
    inputs = {key: tensor(case[key]).requires_grad_() for key in ("x", "t", "context", "guidance", "cls") if case.get(key)}
    net = Net(case["config"], {name: tensor(entry) for name, entry in case["state"].items()}, case["condition"])
    out = net(*(inputs.get(key) for key in ("x", "t", "context", "guidance", "cls")))
    asked = [key for key in ("x", "context") if key in inputs]
    slopes = torch.autograd.grad((out * tensor(case["weights"])).sum(), [inputs[key] for key in asked])
    return {
        "out": out.flatten().tolist(),
        "gradients": {key: slope.flatten().tolist() for key, slope in zip(asked, slopes)},
    }


json.dump([run(case) for case in json.load(sys.stdin)], sys.stdout)
