"""The small models that are not decoders alone, each as llama.cpp computes its architecture.

`EncoderDecoder` is llama.cpp's "t5" (RMSNorm, relative position buckets, ReLU, tied output without
T5's scaling), `TextEncoder` its "bert" (LayerNorm after each block, learned positions, tanh GELU),
`ImageEncoder` the vision half of its "janus_pro" projector: a SigLIP transformer and two matrices.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn

from model import Norm


def initialize(module, residual=(), residual_scale=1.0):
    for name, parameter in module.named_parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.02 * (residual_scale if name.endswith(residual) else 1.0))


def heads_of(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


@dataclass
class TranslatorConfig:
    vocabulary: int = 640
    width: int = 256
    heads: int = 4
    feed_forward: int = 256
    encoder_layers: int = 2
    decoder_layers: int = 2
    buckets: int = 32
    context: int = 320
    norm_epsilon: float = 1e-6

    @property
    def head_width(self):
        return self.width // self.heads


MAX_DISTANCE = 128  # llama.cpp has it as a constant


def buckets_of(relative, buckets, bidirectional):
    """T5's bucket of each key position minus query position (Raffel et al. 2020, section 2.1)."""
    found = torch.zeros_like(relative)
    if bidirectional:
        buckets //= 2
        found = (relative > 0).long() * buckets
        relative = relative.abs()
    else:
        relative = -relative.clamp(max=0)
    exact = buckets // 2
    scale = (buckets - exact) / math.log(MAX_DISTANCE / exact)
    far = exact + (torch.log(relative.clamp(min=1).float() / exact) * scale).floor().long()
    return found + torch.where(relative < exact, relative, far.clamp(max=buckets - 1))


class RelativeBias(nn.Module):
    """One number for each bucket and head; the first layer's serve all layers."""

    def __init__(self, config, bidirectional):
        super().__init__()
        self.table = nn.Embedding(config.buckets, config.heads)
        self.buckets, self.bidirectional = config.buckets, bidirectional

    def forward(self, length, device):
        position = torch.arange(length, device=device)
        bias = self.table(buckets_of(position[None, :] - position[:, None], self.buckets, self.bidirectional))
        return bias.permute(2, 0, 1)[None]


class CrossAttention(nn.Module):
    """Attention from `x` to `source`; self-attention when they are the same."""

    def __init__(self, config):
        super().__init__()
        self.heads = config.heads
        self.q, self.k, self.v, self.o = (nn.Linear(config.width, config.width, bias=False) for _ in range(4))

    def forward(self, x, source, mask):
        q, k, v = heads_of(self.q(x), self.heads), heads_of(self.k(source), self.heads), heads_of(self.v(source), self.heads)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.type_as(q))
        return self.o(mixed.transpose(1, 2).flatten(2))


class Relu(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.up = nn.Linear(config.width, config.feed_forward, bias=False)
        self.down = nn.Linear(config.feed_forward, config.width, bias=False)

    def forward(self, x):
        return self.down(F.relu(self.up(x)))


class TranslatorLayer(nn.Module):
    def __init__(self, config, crossed):
        super().__init__()
        norm = lambda: Norm(config.width, config.norm_epsilon)
        self.attention_norm, self.attention = norm(), CrossAttention(config)
        if crossed:
            self.cross_norm, self.cross = norm(), CrossAttention(config)
        self.feed_forward_norm, self.feed_forward = norm(), Relu(config)

    def forward(self, x, mask, source=None, source_mask=None):
        normed = self.attention_norm(x)
        x = x + self.attention(normed, normed, mask)
        if source is not None:
            x = x + self.cross(self.cross_norm(x), source, source_mask)
        return x + self.feed_forward(self.feed_forward_norm(x))


class EncoderDecoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.encoder_layers = nn.ModuleList(TranslatorLayer(config, False) for _ in range(config.encoder_layers))
        self.decoder_layers = nn.ModuleList(TranslatorLayer(config, True) for _ in range(config.decoder_layers))
        self.encoder_bias, self.decoder_bias = RelativeBias(config, True), RelativeBias(config, False)
        self.encoder_norm, self.decoder_norm = (Norm(config.width, config.norm_epsilon) for _ in range(2))
        initialize(self, (".o.weight", ".down.weight"), (config.encoder_layers + config.decoder_layers) ** -0.5)

    def encode(self, tokens, padding):
        """`padding` is true where there is no token."""
        x = self.embedding(tokens)
        mask = self.encoder_bias(tokens.shape[1], tokens.device) + hidden(padding)
        for layer in self.encoder_layers:
            x = layer(x, mask)
        return self.encoder_norm(x)

    def decode(self, tokens, source, padding):
        x, length = self.embedding(tokens), tokens.shape[1]
        future = torch.ones(length, length, dtype=torch.bool, device=tokens.device).triu(1)
        mask = self.decoder_bias(length, tokens.device) + hidden(future[None])
        for layer in self.decoder_layers:
            x = layer(x, mask, source, hidden(padding))
        return F.linear(self.decoder_norm(x), self.embedding.weight)

    def forward(self, source, padding, tokens):
        return self.decode(tokens, self.encode(source, padding), padding)


def hidden(padding):
    """[batch, (query,) key] booleans as numbers to add to attention scores."""
    wide = padding[:, None, None, :] if padding.dim() == 2 else padding[:, None]
    return torch.zeros(wide.shape, device=padding.device).masked_fill(wide, -1e9)


@dataclass
class TextEncoderConfig:
    vocabulary: int = 640
    width: int = 256
    heads: int = 4
    layers: int = 3
    feed_forward: int = 256
    context: int = 256
    labels: int = 14
    norm_epsilon: float = 1e-6

    @property
    def head_width(self):
        return self.width // self.heads


class EncoderLayer(nn.Module):
    """BERT's layer: LayerNorm after the residual sum; with `first` before, as in a vision transformer."""

    def __init__(self, config, first):
        super().__init__()
        self.heads, self.first = config.heads, first
        self.q, self.k, self.v, self.o = (nn.Linear(config.width, config.width) for _ in range(4))
        self.up = nn.Linear(config.width, config.feed_forward)
        self.down = nn.Linear(config.feed_forward, config.width)
        self.attention_norm, self.feed_forward_norm = (nn.LayerNorm(config.width, config.norm_epsilon) for _ in range(2))

    def attend(self, x, mask):
        q, k, v = (heads_of(part(x), self.heads) for part in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask.type_as(q))
        return self.o(mixed.transpose(1, 2).flatten(2))

    def feed(self, x):
        return self.down(F.gelu(self.up(x), approximate="tanh"))

    def forward(self, x, mask=None):
        if self.first:
            x = x + self.attend(self.attention_norm(x), mask)
            return x + self.feed(self.feed_forward_norm(x))
        x = self.attention_norm(x + self.attend(x, mask))
        return self.feed_forward_norm(x + self.feed(x))


class TextEncoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.embedding_norm = nn.LayerNorm(config.width, config.norm_epsilon)
        self.layers = nn.ModuleList(EncoderLayer(config, False) for _ in range(config.layers))
        self.classes = nn.Linear(config.width, config.labels)
        initialize(self)

    def forward(self, tokens, padding):
        """The mean over all tokens: the embedding, and what the classes are computed from."""
        x = self.embedding(tokens) + self.positions.weight[: tokens.shape[1]]
        x, mask = self.embedding_norm(x), hidden(padding)
        for layer in self.layers:
            x = layer(x, mask)
        kept = (~padding)[..., None].float()
        return (x.float() * kept).sum(1) / kept.sum(1)


@dataclass
class ImageEncoderConfig:
    size: int = 64
    patch: int = 8
    width: int = 128
    heads: int = 4
    layers: int = 2
    feed_forward: int = 256
    decoder_width: int = 256
    norm_epsilon: float = 1e-6

    @property
    def patches(self):
        return (self.size // self.patch) ** 2


class ImageEncoder(nn.Module):
    """An image as one vector for each of its patches, of the decoder's width."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.patch = nn.Linear(3 * config.patch**2, config.width)  # columns: channel, row, column
        self.positions = nn.Embedding(config.patches, config.width)
        self.layers = nn.ModuleList(EncoderLayer(config, True) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, config.norm_epsilon)
        self.project_in = nn.Linear(config.width, config.decoder_width)
        self.project_out = nn.Linear(config.decoder_width, config.decoder_width)
        initialize(self)

    def forward(self, images):
        """uint8 [batch, row, column, channel] → [batch, patch, decoder width]."""
        pixels = (images.float() / 255 - 0.5) / 0.5
        side, patch = self.config.size // self.config.patch, self.config.patch
        x = pixels.unflatten(2, (side, patch)).unflatten(1, (side, patch))  # batch, y, row, x, column, channel
        x = self.patch(x.permute(0, 1, 3, 5, 2, 4).flatten(3).flatten(1, 2)) + self.positions.weight
        for layer in self.layers:
            x = layer(x)
        return self.project_out(F.gelu(self.project_in(self.norm(x)), approximate="tanh"))


MODELS = {"translate": (EncoderDecoder, TranslatorConfig), "embed": (TextEncoder, TextEncoderConfig), "see": (ImageEncoder, ImageEncoderConfig)}


def save(model, kind, path):
    """Matrices as F16: what is measured is what is exported."""
    state = {name: value.half() if value.dim() == 2 else value for name, value in model.state_dict().items()}
    torch.save({"kind": kind, "config": asdict(model.config), "state": state}, path)


def load(path, device="cpu"):
    """The model in float32, ready for evaluation."""
    stored = torch.load(path, map_location=device, weights_only=True)
    build, config = MODELS[stored["kind"]]
    model = build(config(**stored["config"]))
    model.load_state_dict({name: value.float() for name, value in stored["state"].items()})
    return model.to(device).eval()
