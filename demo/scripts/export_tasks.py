"""Writes the small models of the invented world as F16 GGUFs.

    python export_tasks.py --models DATA --tokenizer DATA/world.json --out demo/model

Vectors, position tables that llama.cpp adds without converting, and the router of the experts are F32.
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np

import encoders
import export_gguf
import model as decoders
from make_tasks import BOS, EOS, IM_END, PAD, SPECIALS
from world import stories

LICENSE = "mit"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def add_tokenizer(writer, path, bos, eos, end=EOS):
    """The byte-level BPE of the invented world; `bos` and `eos` say what llama.cpp puts around a text."""
    tokenizer = json.loads(Path(path).read_text(encoding="utf-8"))["model"]
    tokens = sorted(tokenizer["vocab"], key=tokenizer["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in SPECIALS else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["merges"]])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(end)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(bos)
    writer.add_add_eos_token(eos)
    writer.add_add_space_prefix(False)


def start(path, architecture, name, description, config):
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(name)
    writer.add_description(description)
    writer.add_license(LICENSE)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    if config is not None:
        writer.add_vocab_size(config.vocabulary)
        writer.add_context_length(config.context)
        writer.add_embedding_length(config.width)
        writer.add_feed_forward_length(config.feed_forward)
        writer.add_head_count(config.heads)
    return writer


def finish(writer, tensors, wide=()):
    """Matrices as F16, vectors and the tensors whose name ends as in `wide` as F32."""
    for name, value in tensors.items():
        array = value.detach().numpy()
        half = array.ndim >= 2 and not name.endswith(tuple(wide) or ("\0",))
        writer.add_tensor(name, np.ascontiguousarray(array.astype(np.float16 if half else np.float32)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def export_translate(model, path, tokenizer):
    config = model.config
    writer = start(path, "t5", "quantbench demo translate", "Sentences of a small grammar from English to German, and one-sentence summaries.", config)
    writer.add_block_count(config.encoder_layers)
    writer.add_decoder_block_count(config.decoder_layers)
    writer.add_key_length(config.head_width)
    writer.add_value_length(config.head_width)
    writer.add_layer_norm_eps(config.norm_epsilon)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_relative_attn_buckets_count(config.buckets)
    writer.add_decoder_start_token_id(PAD)
    add_tokenizer(writer, tokenizer, bos=False, eos=True)
    tensors = {
        "token_embd.weight": model.embedding.weight,
        "enc.output_norm.weight": model.encoder_norm.weight,
        "dec.output_norm.weight": model.decoder_norm.weight,
        "enc.blk.0.attn_rel_b.weight": model.encoder_bias.table.weight,
        "dec.blk.0.attn_rel_b.weight": model.decoder_bias.table.weight,
    }
    for half, layers in (("enc", model.encoder_layers), ("dec", model.decoder_layers)):
        for index, layer in enumerate(layers):
            add = lambda name, value: tensors.__setitem__(f"{half}.blk.{index}.{name}.weight", value)
            attentions = [("attn", layer.attention, layer.attention_norm)]
            if half == "dec":
                attentions.append(("cross_attn", layer.cross, layer.cross_norm))
            for prefix, attention, norm in attentions:
                add(f"{prefix}_norm", norm.weight)
                # T5 does not divide scores by the root of the head width: the query's matrix does.
                add(f"{prefix}_q", attention.q.weight / config.head_width**0.5)
                for part in "kvo":
                    add(f"{prefix}_{part}", getattr(attention, part).weight)
            add("ffn_norm", layer.feed_forward_norm.weight)
            add("ffn_up", layer.feed_forward.up.weight)
            add("ffn_down", layer.feed_forward.down.weight)
    finish(writer, tensors, wide=["attn_rel_b.weight"])


def encoder_layer(layer, prefix, names):
    """Weights and biases of one EncoderLayer under llama.cpp's names."""
    tensors = {}
    for ours, theirs in names.items():
        part = getattr(layer, ours)
        tensors[f"{prefix}.{theirs}.weight"], tensors[f"{prefix}.{theirs}.bias"] = part.weight, part.bias
    return tensors


def export_embed(model, path, tokenizer):
    config = model.config
    writer = start(path, "bert", "quantbench demo embed", "Embeddings to find passages and to tell topics and moods.", config)
    writer.add_block_count(config.layers)
    writer.add_layer_norm_eps(config.norm_epsilon)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_classifier_output_labels(stories.TOPIC_NAMES + stories.MOOD_NAMES)
    writer.add_uint32("bert.classifier.pooling_type", gguf.PoolingType.MEAN.value)
    writer.add_token_type_count(1)
    add_tokenizer(writer, tokenizer, bos=True, eos=True)
    tensors = {
        "token_embd.weight": model.embedding.weight,
        "position_embd.weight": model.positions.weight,
        "token_embd_norm.weight": model.embedding_norm.weight,
        "token_embd_norm.bias": model.embedding_norm.bias,
        "cls.output.weight": model.classes.weight,
        "cls.output.bias": model.classes.bias,
    }
    names = dict(q="attn_q", k="attn_k", v="attn_v", o="attn_output", up="ffn_up", down="ffn_down", attention_norm="attn_output_norm", feed_forward_norm="layer_output_norm")
    for index, layer in enumerate(model.layers):
        tensors |= encoder_layer(layer, f"blk.{index}", names)
    finish(writer, tensors)


def export_see(model, path):
    config = model.config
    writer = start(path, "clip", "quantbench demo see", "Pictures of 64 by 64 pixels for quantbench demo chat.", None)
    writer.add_type(gguf.GGUFType.MMPROJ)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("janus_pro")
    writer.add_vision_projection_dim(config.decoder_width)
    writer.add_vision_image_size(config.size)
    writer.add_vision_patch_size(config.patch)
    writer.add_vision_embedding_length(config.width)
    writer.add_vision_feed_forward_length(config.feed_forward)
    writer.add_vision_block_count(config.layers)
    writer.add_vision_head_count(config.heads)
    writer.add_vision_attention_layernorm_eps(config.norm_epsilon)
    writer.add_vision_image_mean([0.5, 0.5, 0.5])
    writer.add_vision_image_std([0.5, 0.5, 0.5])
    writer.add_vision_use_gelu(True)
    tensors = {
        "v.patch_embd.weight": model.patch.weight.view(config.width, 3, config.patch, config.patch),
        "v.patch_embd.bias": model.patch.bias,
        "v.position_embd.weight": model.positions.weight,
        "v.post_ln.weight": model.norm.weight,
        "v.post_ln.bias": model.norm.bias,
        "mm.0.weight": model.project_in.weight,
        "mm.0.bias": model.project_in.bias,
        "mm.1.weight": model.project_out.weight,
        "mm.1.bias": model.project_out.bias,
    }
    names = dict(q="attn_q", k="attn_k", v="attn_v", o="attn_out", up="ffn_up", down="ffn_down", attention_norm="ln1", feed_forward_norm="ln2")
    for index, layer in enumerate(model.layers):
        tensors |= encoder_layer(layer, f"v.blk.{index}", names)
    finish(writer, tensors, wide=["position_embd.weight"])


def decoder_tensors(model):
    """As the demo model's; the experts of a layer become one tensor for each of their matrices."""
    tensors = {}
    for name, value in model.state_dict().items():
        if ".feed_forward.experts." not in name and ".router." not in name:
            tensors[export_gguf.tensor_name(name)] = value
    for index, layer in enumerate(model.layers):
        if model.config.experts:
            tensors[f"blk.{index}.ffn_gate_inp.weight"] = layer.feed_forward.router.weight
            for part in ("gate", "up", "down"):
                stacked = np.stack([getattr(expert, part).weight.detach().numpy() for expert in layer.feed_forward.experts])
                tensors[f"blk.{index}.ffn_{part}_exps.weight"] = decoders.torch.from_numpy(stacked)
    return tensors


def export_decoder(model, path, tokenizer, name, description, chat):
    config = model.config
    writer = start(path, "llama", name, description, config)
    writer.add_block_count(config.layers)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_rope_dimension_count(config.head_width)
    writer.add_rope_freq_base(config.rope_base)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    if config.experts:
        writer.add_expert_count(config.experts)
        writer.add_expert_used_count(config.experts_used)
    add_tokenizer(writer, tokenizer, bos=True, eos=False, end=IM_END if chat else EOS)
    if chat:
        writer.add_eot_token_id(IM_END)
        writer.add_chat_template(CHAT_TEMPLATE)
    finish(writer, decoder_tensors(model), wide=["ffn_gate_inp.weight"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    to = lambda name: str(arguments.out / f"quantbench-{name}-F16.gguf")
    made = {}
    for name in ("translate", "embed", "see", "experts", "chat"):
        path = arguments.models / f"{name}.pt"
        if not path.exists():
            print(f"{path}: not there, left out")
            continue
        model = made[name] = encoders.load(path) if name in encoders.MODELS else decoders.load(path)
        if name == "translate":
            export_translate(model, to("demo-translate"), arguments.tokenizer)
        elif name == "embed":
            export_embed(model, to("demo-embed"), arguments.tokenizer)
        elif name == "see":
            export_see(model, to("demo-see-mmproj"))
        else:
            text = "Stories and facts of an invented world, with questions." if name == "experts" else "Answers about stories, facts and pictures of an invented world, in ChatML."
            export_decoder(model, to(f"demo-{name}"), arguments.tokenizer, f"quantbench demo {name}", text, chat=name == "chat")
        print(f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
