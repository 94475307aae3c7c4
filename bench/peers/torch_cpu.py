# PyTorch on the processor: not WebGPU, a yardstick of what the machine itself can do. One request a line, as worker.ts.
import json
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]))


def apply(c, xs):
    kind = c["kind"]
    if kind == "matmul":
        return xs[0] @ xs[1]
    if kind == "conv":
        return F.conv2d(xs[0], xs[1], stride=c["stride"], padding=1)
    if kind == "attention":
        q, k, v = (x.transpose(1, 2) for x in xs)
        return (torch.softmax(q @ k.transpose(2, 3) * c["depth"] ** -0.5, -1) @ v).transpose(1, 2)
    if kind == "layerNorm":
        return F.layer_norm(xs[0], xs[0].shape[-1:])
    if kind == "groupNorm":
        return F.silu(F.group_norm(xs[0], c["groups"]))
    if kind == "softmax":
        return torch.softmax(xs[0], -1)
    if kind == "gelu":
        return F.gelu(xs[0], approximate="tanh") if torch.__version__ >= "1.12" else F.gelu(xs[0])
    return F.silu(xs[0])


print("ready", flush=True)
prepared = None
for line in sys.stdin:
    request = json.loads(line)
    c, backward = request["case"], request["mode"] != "forward"
    key = (c["name"], backward)
    if prepared is None or prepared[0] != key:
        xs = [torch.from_numpy(np.random.rand(*shape).astype("f4") * 2 - 1) for shape in request["shapes"]]
        if c["kind"] in ("conv", "groupNorm"):
            xs = [x.permute(0, 3, 1, 2).contiguous() if i == 0 else x.permute(3, 2, 0, 1).contiguous() for i, x in enumerate(xs)]
        prepared = (key, [x.requires_grad_(backward) for x in xs])

    def run():
        for x in prepared[1]:
            x.grad = None
        y = apply(c, prepared[1])
        if backward:
            (y * y).sum().backward()

    with torch.set_grad_enabled(backward):
        run()
        cpu, start = time.process_time(), time.perf_counter()
        for _ in range(request["repeats"]):
            run()
        n = request["repeats"]
        reply = {"milliseconds": (time.perf_counter() - start) * 1e3 / n, "processor": (time.process_time() - cpu) * 1e3 / n}
    print(json.dumps(reply), flush=True)
