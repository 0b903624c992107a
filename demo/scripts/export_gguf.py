"""Writes a trained model and its tokenizer as one F16 GGUF (norms in F32, as llama.cpp expects).

    python export_gguf.py --model DATA/demo.pt --tokenizer DATA/tokenizer.json --out quantbench-demo-F16.gguf
"""

import argparse
import json

import gguf
import numpy as np

import model as architecture

DESCRIPTION = (
    "A small base model for trying quantbench: plain English text continuation, no instructions. "
    "Trained on English Wikipedia, SQuAD, FairytaleQA, African Storybook, TinyStories, Tatoeba and SciTLDR."
)
# Tensor names inside a layer, ours and llama.cpp's.
LAYER_TENSORS = {
    "attention_norm": "attn_norm",
    "attention.q": "attn_q",
    "attention.k": "attn_k",
    "attention.v": "attn_v",
    "attention.o": "attn_output",
    "feed_forward_norm": "ffn_norm",
    "feed_forward.gate": "ffn_gate",
    "feed_forward.up": "ffn_up",
    "feed_forward.down": "ffn_down",
}


def tensor_name(name):
    """layers.3.attention.q.weight → blk.3.attn_q.weight"""
    if name == "embedding.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    _, index, rest = name.split(".", 2)
    return f"blk.{index}.{LAYER_TENSORS[rest.removesuffix('.weight')]}.weight"


def add_metadata(writer, config, name):
    writer.add_name(name)
    writer.add_description(DESCRIPTION)
    writer.add_license("cc-by-sa-4.0")
    writer.add_languages(["en"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_vocab_size(config.vocabulary)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.feed_forward)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_rope_dimension_count(config.head_width)
    writer.add_rope_freq_base(config.rope_base)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)


def add_tokenizer(writer, path):
    with open(path, encoding="utf-8") as file:
        tokenizer = json.load(file)["model"]
    tokens = sorted(tokenizer["vocab"], key=tokenizer["vocab"].get)
    special = gguf.TokenType.CONTROL
    types = [special if token in ("<s>", "</s>") else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["merges"]])
    writer.add_bos_token_id(tokens.index("<s>"))
    writer.add_eos_token_id(tokens.index("</s>"))
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--name", default="quantbench demo", help="general.name in the file")
    arguments = parser.parse_args()

    decoder = architecture.load(arguments.model)
    writer = gguf.GGUFWriter(arguments.out, "llama")
    add_metadata(writer, decoder.config, arguments.name)
    add_tokenizer(writer, arguments.tokenizer)
    for name, value in decoder.state_dict().items():
        array = value.numpy()
        if array.ndim == 2:
            assert array.shape[-1] % 256 == 0, name
            array = array.astype(np.float16)
        writer.add_tensor(tensor_name(name), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{arguments.out}: {sum(p.numel() for p in decoder.parameters()):,} parameters")


if __name__ == "__main__":
    main()
