//! Names of a checkpoint's modules in a GGUF, and what llama.cpp's converter does to them: for the
//! architecture `llama` it reorders the rows of q and k, for Gemma it adds 1 to the norms.

use super::error::ImportError;
use crate::model::gguf::{Header, Value};

/// The names that both sides use after `model.layers.N.` and `blk.N.`.
#[rustfmt::skip]
const MODULES: [(&str, &str); 24] = [
    ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"), ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"), ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.q_norm", "attn_q_norm"), ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"),
    // Phi 3: gate and up in one.
    ("mlp.gate_up_proj", "ffn_up"), ("mlp.gate", "ffn_gate_inp"),
    ("block_sparse_moe.gate", "ffn_gate_inp"), ("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_expert.up_proj", "ffn_up_shexp"),
    ("mlp.shared_expert.down_proj", "ffn_down_shexp"),
    ("mlp.shared_expert_gate", "ffn_gate_inp_shexp"), ("input_layernorm", "attn_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"), ("post_feedforward_layernorm", "post_ffw_norm"),
    // Of experts.
    ("w1", "ffn_gate_exps"), ("w2", "ffn_down_exps"), ("w3", "ffn_up_exps"),
    // Mistral's own name of the same in some checkpoints.
    ("feed_forward.gate", "ffn_gate_inp"),
];

/// What the architecture of BASE means for names and rows.
#[derive(Debug, Clone)]
pub(crate) struct Architecture {
    name: String,
    heads: usize,
    key_value_heads: usize,
}

/// Where a module belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Name of the tensor without `.weight` or `.bias`.
    pub stem: String,
    /// Which of the experts in the tensor, if it holds several.
    pub expert: Option<usize>,
    /// In how many heads rows are reordered; `None`: they stay as they are.
    pub heads: Option<usize>,
}

impl Architecture {
    /// Reads it from BASE.
    ///
    /// # Errors
    /// The names of its tensors are not known here.
    pub(crate) fn of(header: &Header) -> Result<Self, ImportError> {
        let name = header.architecture().to_owned();
        let known = [
            "llama", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "gemma", "gemma2", "gemma3", "phi3",
        ];
        if !known.contains(&name.as_str()) {
            return Err(ImportError::Refused(format!(
                "BASE is of the architecture '{name}'; checkpoints are imported for llama (with mistral and mixtral), \
                 qwen2, qwen2moe, qwen3, qwen3moe, gemma, gemma2, gemma3 and phi3"
            )));
        }
        let count = |key: &str| {
            let value = header.get_own(key).and_then(Value::as_count);
            value.and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0)
        };
        let heads = count("attention.head_count");
        let key_value_heads = count("attention.head_count_kv").or(heads);
        match (heads, key_value_heads) {
            (Some(heads), Some(key_value_heads)) => Ok(Self { name, heads, key_value_heads }),
            // Only the llama architecture needs them; a list, one per layer, is of none here.
            _ if name != "llama" => Ok(Self { name, heads: 1, key_value_heads: 1 }),
            _ => Err(ImportError::mismatch("attention", "BASE does not tell its number of heads")),
        }
    }

    /// What the converter adds to a norm's weights.
    pub(crate) fn norm_offset(&self) -> f32 {
        if self.name.starts_with("gemma") { 1.0 } else { 0.0 }
    }

    /// The place of a module; `None` for one that has none.
    pub(crate) fn place(&self, module: &str) -> Option<Place> {
        let whole = |stem: &str| Some(Place { stem: stem.to_owned(), expert: None, heads: None });
        match module {
            "model.norm" => return whole("output_norm"),
            "lm_head" => return whole("output"),
            _ => {}
        }
        let (layer, rest) = module.strip_prefix("model.layers.")?.split_once('.')?;
        let layer: u32 = layer.parse().ok()?;
        let expert = rest
            .strip_prefix("block_sparse_moe.experts.")
            .or_else(|| rest.strip_prefix("mlp.experts."));
        if let Some((expert, part)) = expert.and_then(|rest| rest.split_once('.')) {
            let name = match part {
                "gate_proj" => "ffn_gate_exps",
                "up_proj" => "ffn_up_exps",
                "down_proj" => "ffn_down_exps",
                other => name_of(other)?,
            };
            let expert = Some(expert.parse().ok()?);
            return Some(Place { stem: format!("blk.{layer}.{name}"), expert, heads: None });
        }
        let name = match rest {
            "post_attention_layernorm" if matches!(self.name.as_str(), "gemma2" | "gemma3") => {
                "post_attention_norm"
            }
            "post_attention_layernorm" => "ffn_norm",
            other => name_of(other)?,
        };
        let heads = match name {
            "attn_q" if self.name == "llama" => Some(self.heads),
            "attn_k" if self.name == "llama" => Some(self.key_value_heads),
            _ => None,
        };
        Some(Place { stem: format!("blk.{layer}.{name}"), expert: None, heads })
    }
}

fn name_of(module: &str) -> Option<&'static str> {
    MODULES.iter().find(|(own, _)| *own == module).map(|(_, name)| *name)
}

/// Which row of the checkpoint stands at each row of the GGUF.
///
/// A checkpoint keeps the two halves of each rotary pair half a head apart, llama.cpp's `llama`
/// architecture side by side. `None` when rows do not divide into heads of pairs.
pub(crate) fn row_order(rows: usize, heads: Option<usize>) -> Option<Vec<usize>> {
    let Some(heads) = heads else { return Some((0..rows).collect()) };
    if !rows.is_multiple_of(2 * heads) {
        return None;
    }
    let (head, half) = (rows / heads, rows / heads / 2);
    Some((0..rows).map(|row| row / head * head + row % 2 * half + row % head / 2).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn architecture(name: &str) -> Architecture {
        Architecture { name: name.to_owned(), heads: 4, key_value_heads: 2 }
    }

    #[test]
    fn rows_of_a_rotary_pair_come_side_by_side() {
        assert_eq!(row_order(8, Some(2)).unwrap(), [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(row_order(6, Some(1)).unwrap(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(row_order(3, None).unwrap(), [0, 1, 2]);
        assert_eq!(row_order(6, Some(2)), None);
    }

    #[test]
    fn modules_have_their_places() {
        let place = |architecture: &Architecture, module: &str| {
            architecture.place(module).map(|place| (place.stem, place.expert, place.heads))
        };
        let (llama, gemma) = (architecture("llama"), architecture("gemma2"));
        let own = |stem: &str, expert, heads| Some((stem.to_owned(), expert, heads));
        let layer = "model.layers.3.";
        for (module, expected) in [
            ("self_attn.q_proj", own("blk.3.attn_q", None, Some(4))),
            ("self_attn.k_proj", own("blk.3.attn_k", None, Some(2))),
            ("self_attn.v_proj", own("blk.3.attn_v", None, None)),
            ("post_attention_layernorm", own("blk.3.ffn_norm", None, None)),
            ("block_sparse_moe.experts.7.w2", own("blk.3.ffn_down_exps", Some(7), None)),
            ("mlp.experts.1.up_proj", own("blk.3.ffn_up_exps", Some(1), None)),
            ("self_attn.rotary_emb", None),
        ] {
            assert_eq!(place(&llama, &format!("{layer}{module}")), expected, "{module}");
        }
        assert_eq!(
            place(&gemma, "model.layers.0.post_attention_layernorm"),
            own("blk.0.post_attention_norm", None, None)
        );
        assert_eq!(
            place(&gemma, "model.layers.0.self_attn.q_proj"),
            own("blk.0.attn_q", None, None)
        );
        assert_eq!(place(&llama, "model.layers.x.mlp.up_proj"), None);
    }
}
