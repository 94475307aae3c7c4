# PyTorch beside the WebGPU engines: on the processor a yardstick of what the machine itself can do, on CUDA the bar.
# Arguments: device (cpu or cuda), precision (f32, f16 or bf16), eager or compiled. One request a line, as worker.ts.
import contextlib
import json
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

device, precision, how = sys.argv[1:4]
dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[precision]
if device == "cuda" and not torch.cuda.is_available():
    sys.exit("no CUDA device")


def apply(c, xs):
    kind = c["kind"]
    if kind == "matmul":
        return xs[0] @ xs[1]
    if kind == "conv":
        return F.conv2d(xs[0], xs[1], stride=c["stride"], padding=1)
    if kind == "attention":
        return attention(*xs, c["heads"])
    if kind == "layerNorm":
        return F.layer_norm(xs[0], xs[0].shape[-1:])
    if kind == "groupNorm":
        return F.silu(F.group_norm(xs[0], c["groups"]))
    if kind == "softmax":
        return torch.softmax(xs[0], -1)
    if kind == "gelu":
        return gelu(xs[0])
    return F.silu(xs[0])


def gelu(x):
    return F.gelu(x, approximate="tanh")


def attention(q, k, v, heads):
    batch, tokens, width = q.shape
    q, k, v = (x.reshape(batch, tokens, heads, -1).transpose(1, 2) for x in (q, k, v))
    if hasattr(F, "scaled_dot_product_attention"):
        mixed = F.scaled_dot_product_attention(q, k, v)
    else:
        mixed = torch.softmax(q @ k.transpose(2, 3) * (width / heads) ** -0.5, -1) @ v
    return mixed.transpose(1, 2).reshape(batch, tokens, width)


def linear(p, name, x):
    return x @ p[name + ".w"] + p[name + ".b"]


def mlp(p, x, t):
    h = F.silu(linear(p, "in", x) + linear(p, "time", t))
    for i in range(1, 4):
        h = F.silu(linear(p, f"layer{i}", h))
    return linear(p, "out", h)


def dit(p, x, t):
    condition = F.silu(linear(p, "time", t))
    normal = lambda h: F.layer_norm(h, h.shape[-1:])
    h = linear(p, "embed", x) + p["position"]
    for i in range(4):
        parts = linear(p, f"{i}.condition", condition)[:, None].chunk(6, -1)
        q, k, v = linear(p, f"{i}.qkv", normal(h) * (1 + parts[1]) + parts[0]).chunk(3, -1)
        h = h + parts[2] * linear(p, f"{i}.proj", attention(q, k, v, 3))
        h = h + parts[5] * linear(p, f"{i}.down", gelu(linear(p, f"{i}.up", normal(h) * (1 + parts[4]) + parts[3])))
    shift, scale = linear(p, "last", condition)[:, None].chunk(2, -1)
    return linear(p, "out", normal(h) * (1 + scale) + shift)


def unet(p, x, t):
    def conv(name, h, stride=1):
        w = p[name + ".w"].permute(3, 2, 0, 1)
        return F.conv2d(h, w, p[name + ".b"], stride=stride, padding=w.shape[-1] // 2)

    embedded = F.silu(linear(p, "time", t))

    def residual(name, h):
        inner = conv(name + ".1", F.silu(F.group_norm(h, 8)))
        inner = inner + linear(p, name + ".time", embedded)[:, :, None, None]
        inner = conv(name + ".2", F.silu(F.group_norm(inner, 8)))
        return inner + (conv(name + ".skip", h) if name + ".skip.w" in p else h)

    first = residual("down0", conv("in", x.permute(0, 3, 1, 2)))
    second = residual("down1", conv("shrink", first, 2))
    h = residual("middle0", second)
    tokens = F.group_norm(h, 8).flatten(2).transpose(1, 2)
    mixed = attention(*linear(p, "qkv", tokens).chunk(3, -1), 4)
    h = h + linear(p, "proj", mixed).transpose(1, 2).reshape(h.shape)
    h = residual("middle1", h)
    h = residual("up1", torch.cat([h, second], 1))
    grown = conv("grow", F.interpolate(h, scale_factor=2, mode="nearest"))
    h = residual("up0", torch.cat([grown, first], 1))
    return conv("out", F.silu(F.group_norm(h, 8))).permute(0, 2, 3, 1)


def prepare(request):
    """The work of one repetition."""
    c, mode = request["case"], request["mode"]
    arrays = [(np.random.rand(*shape).astype("f4") * 2 - 1) * 0.1 for shape in request["shapes"]]
    xs = [torch.from_numpy(a).to(device, dtype) for a in arrays]
    if c["kind"] in ("conv", "groupNorm"):
        xs = [x.permute(0, 3, 1, 2).contiguous() if i == 0 else x.permute(3, 2, 0, 1).contiguous() for i, x in enumerate(xs)]
    if mode == "step":
        adam = c["kind"] == "adam"
        given, weights = (xs[1:], xs[:1]) if adam else (xs[:3], xs[3:])
        weights = [w.float().requires_grad_() for w in weights]
        fused = {"fused": True} if device == "cuda" and torch.__version__ >= "2" else {}
        optimizer = torch.optim.Adam(weights, lr=1e-3, betas=(0.9, 0.99), **fused)
        network = None if adam else {"mlp": mlp, "dit": dit, "unet": unet}[c["network"]]

        def loss():
            with torch.autocast(device, dtype) if precision != "f32" else contextlib.nullcontext():
                y = network(dict(zip(request["names"], weights)), given[0], given[1])
            return ((y.float() - given[2].float()) ** 2).mean()

        compute = torch.compile(loss) if how == "compiled" and network else loss

        def run():
            if adam:
                weights[0].grad = given[0].float()
            else:
                optimizer.zero_grad(set_to_none=True)
                compute().backward()
            optimizer.step()

        return run
    backward = mode != "forward"
    xs = [x.requires_grad_(backward) for x in xs]
    forward = lambda: apply(c, xs)
    compute = torch.compile(forward) if how == "compiled" else forward

    def run():
        for x in xs:
            x.grad = None
        with torch.set_grad_enabled(backward):
            y = compute()
            if backward:
                (y * y).sum().backward()

    return run


def finish():
    if device == "cuda":
        torch.cuda.synchronize()


print("ready", flush=True)
prepared = None
for line in sys.stdin:
    request = json.loads(line)
    key = (request["case"]["name"], request["mode"])
    if prepared is None or prepared[0] != key:
        prepared = (key, prepare(request))
        for _ in range(3):
            prepared[1]()
    finish()
    cpu, start = time.process_time(), time.perf_counter()
    for _ in range(request["repeats"]):
        prepared[1]()
    finish()
    n = request["repeats"]
    reply = {"milliseconds": (time.perf_counter() - start) * 1e3 / n, "processor": (time.process_time() - cpu) * 1e3 / n}
    print(json.dumps(reply), flush=True)
