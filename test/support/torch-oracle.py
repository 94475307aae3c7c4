"""Evaluates expressions and their gradients in PyTorch, in float64: the oracle of test/torch.test.ts.

Reads JSON from standard input, a list of {code, inputs: [{shape, values}], seed_gradient}: `code` is an expression of the
tensors x[0], x[1], ... with torch and F (torch.nn.functional) in reach. Writes a list of {output, gradients}.
"""
import json
import sys

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)


def evaluate(case):
    x = [torch.tensor(i["values"]).reshape(i["shape"]).requires_grad_() for i in case["inputs"]]
    output = eval(case["code"], {"torch": torch, "F": F, "x": x})
    weights = torch.tensor(case["weights"]).reshape(output.shape)
    loss = (output * weights).sum()
    slopes = torch.autograd.grad(loss, x) if loss.requires_grad else [None for _ in x]
    return {
        "output": output.flatten().tolist(),
        "gradients": [None if g is None else g.flatten().tolist() for g in slopes],
    }


json.dump([evaluate(case) for case in json.load(sys.stdin)], sys.stdout)
