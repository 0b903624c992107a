"""A decoder in the Llama architecture, as llama.cpp's "llama" computes it.

RMSNorm before each block, rotary positions on neighbouring pairs (llama.cpp's NORM rope, so that
the export needs no permutation), grouped-query attention, SwiGLU, no biases, and the input
embedding used again as the output layer. With `experts` each feed-forward is a mixture, routed as
in Mixtral: softmax over all experts, the best ones kept, their weights made to sum to one.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    vocabulary: int = 4096
    width: int = 256
    layers: int = 9
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 512
    context: int = 1024
    rope_base: float = 10000.0
    norm_epsilon: float = 1e-5
    dropout: float = 0.0
    experts: int = 0
    experts_used: int = 0

    @property
    def head_width(self):
        return self.width // self.heads


CONFIGS = {
    "demo": Config(),
    "teacher": Config(width=640, layers=12, heads=10, kv_heads=10, feed_forward=1792, dropout=0.15),
    # A second model to try quantization methods on, 4.8 times the demo's size; not committed.
    "medium": Config(width=512, layers=12, heads=8, kv_heads=4, feed_forward=1024, dropout=0.1),
    # The small models of the invented world (make_tasks.py), with its own tokenizer.
    "experts": Config(vocabulary=640, layers=2, feed_forward=256, context=512, experts=4, experts_used=2),
    "chat": Config(vocabulary=640, layers=4, feed_forward=256, context=512),
    # Enough to try every script on a CPU.
    "tiny": Config(width=256, layers=1, feed_forward=256),
}


def rotations(config, length, device):
    """cos and sin for every position and pair, in float32."""
    half = torch.arange(0, config.head_width, 2, device=device, dtype=torch.float64)
    frequency = config.rope_base ** (-half / config.head_width)
    angle = torch.outer(torch.arange(length, device=device, dtype=torch.float64), frequency)
    return angle.cos().float(), angle.sin().float()


def rotate(x, cos, sin):
    """Turns each neighbouring pair of x [batch, heads, length, head width]."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).type_as(x)


class Norm(nn.Module):
    def __init__(self, width, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x):
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        return (wide * self.weight).type_as(x)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        kv_width = config.kv_heads * config.head_width
        self.q = nn.Linear(config.width, config.width, bias=False)
        self.k = nn.Linear(config.width, kv_width, bias=False)
        self.v = nn.Linear(config.width, kv_width, bias=False)
        self.o = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x, cos, sin, cache=None, position=0):
        batch, length, _ = x.shape
        shape = (batch, length, -1, self.config.head_width)
        q, k, v = (part(x).view(shape).transpose(1, 2) for part in (self.q, self.k, self.v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            cache[0][:, :, position : position + length] = k
            cache[1][:, :, position : position + length] = v
            k, v = cache[0][:, :, : position + length], cache[1][:, :, : position + length]
        repeats = self.config.heads // self.config.kv_heads
        if repeats > 1:
            k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1)
        return self.o(mixed.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate = nn.Linear(config.width, config.feed_forward, bias=False)
        self.up = nn.Linear(config.width, config.feed_forward, bias=False)
        self.down = nn.Linear(config.feed_forward, config.width, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Experts(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.used = config.experts_used
        self.router = nn.Linear(config.width, config.experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(config) for _ in range(config.experts))

    def forward(self, x, balances=None):
        """Computes every expert and weighs most with zero: simple, and fast enough at this size.

        `balances` gets the load balancing loss of Switch Transformer (Fedus et al. 2021, eq. 4): 1
        when all experts are chosen equally often.
        """
        probabilities = F.softmax(self.router(x).float(), dim=-1)
        kept = probabilities.topk(self.used, dim=-1)
        chosen = torch.zeros_like(probabilities).scatter(-1, kept.indices, 1.0)
        weights = probabilities * chosen
        weights = (weights / weights.sum(-1, keepdim=True)).type_as(x)
        if balances is not None:
            share = chosen.flatten(0, -2).mean(0) / self.used
            balances.append(len(self.experts) * (share * probabilities.flatten(0, -2).mean(0)).sum())
        return sum(weights[..., index : index + 1] * expert(x) for index, expert in enumerate(self.experts))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attention_norm = Norm(config.width, config.norm_epsilon)
        self.attention = Attention(config)
        self.feed_forward_norm = Norm(config.width, config.norm_epsilon)
        self.feed_forward = Experts(config) if config.experts else FeedForward(config)
        self.experts = config.experts
        self.dropout = config.dropout

    def forward(self, x, cos, sin, cache=None, position=0, balances=None):
        drop = lambda y: F.dropout(y, self.dropout, self.training) if self.dropout else y
        x = x + drop(self.attention(self.attention_norm(x), cos, sin, cache, position))
        normed = self.feed_forward_norm(x)
        return x + drop(self.feed_forward(normed, balances) if self.experts else self.feed_forward(normed))


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = Norm(config.width, config.norm_epsilon)
        cos, sin = rotations(config, config.context, "cpu")
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                residual = name.endswith(("attention.o.weight", "down.weight"))
                scale = (2 * config.layers) ** -0.5 if residual else 1.0
                nn.init.normal_(parameter, std=0.02 * scale)

    def forward(self, tokens, caches=None, position=0, balances=None):
        """Logits for every position; `caches` is filled from `position` on when given."""
        return self.from_embeddings(self.embedding(tokens), caches, position, balances)

    def from_embeddings(self, x, caches=None, position=0, balances=None):
        """The same for inputs that are vectors already, as those of an image are."""
        length = x.shape[1]
        cos, sin = self.cos[position : position + length], self.sin[position : position + length]
        if self.config.dropout:
            x = F.dropout(x, self.config.dropout, self.training)
        for index, layer in enumerate(self.layers):
            x = layer(x, cos, sin, caches[index] if caches else None, position, balances)
        return F.linear(self.norm(x), self.embedding.weight)

    def empty_caches(self, batch, dtype):
        config = self.config
        shape = (2, batch, config.kv_heads, config.context, config.head_width)
        device = self.embedding.weight.device
        return [torch.zeros(shape, dtype=dtype, device=device) for _ in self.layers]


def save(model, path, dtype=None):
    state = {name: value.to(dtype) if dtype and value.dim() == 2 else value for name, value in model.state_dict().items()}
    torch.save({"config": asdict(model.config), "state": state}, path)


def load(path, device="cpu"):
    """The model in float32, ready for evaluation."""
    stored = torch.load(path, map_location=device, weights_only=True)
    model = Decoder(Config(**stored["config"]))
    model.load_state_dict({name: value.float() for name, value in stored["state"].items()})
    return model.to(device).eval()
