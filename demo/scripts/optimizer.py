"""Muon for the matrices inside the layers, AdamW for the embedding and the norms.

Matrices of one shape are stepped together as one batch, which keeps small models fast. Updates are
scaled as in Moonlight (0.2 · sqrt of the longer side), so both parts share one learning rate.
"""

import torch


@torch.compile
def orthogonalize(g, steps=5):
    """Newton–Schulz iteration towards the nearest orthogonal matrix, batched."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon:
    def __init__(self, model, learning_rate, weight_decay, momentum=0.95):
        self.peak, self.weight_decay, self.momentum = learning_rate, weight_decay, momentum
        self.groups, others = {}, []
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "layers." in name:
                self.groups.setdefault(tuple(parameter.shape), []).append(parameter)
            else:
                others.append(parameter)
        self.buffers = {shape: torch.zeros(len(ps), *shape, device=ps[0].device) for shape, ps in self.groups.items()}
        matrices = [p for p in others if p.dim() == 2]
        vectors = [p for p in others if p.dim() == 1]
        self.adam = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=learning_rate,
            betas=(0.9, 0.95),
            fused=matrices[0].is_cuda,
        )

    @torch.no_grad()
    def step(self, factor):
        """One step at `factor` times the peak learning rate."""
        rate = self.peak * factor
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        for shape, parameters in self.groups.items():
            gradient = torch.stack([p.grad for p in parameters])
            buffer = self.buffers[shape]
            buffer.lerp_(gradient, 1 - self.momentum)
            update = orthogonalize(gradient.lerp(buffer, self.momentum)).float()
            scale = 0.2 * max(shape) ** 0.5
            torch._foreach_mul_(parameters, 1 - rate * self.weight_decay)
            torch._foreach_add_(parameters, list(update.unbind(0)), alpha=-rate * scale)
        for parameters in (*self.groups.values(), *(g["params"] for g in self.adam.param_groups)):
            for parameter in parameters:
                parameter.grad = None
