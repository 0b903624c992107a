//! Memory of the KV cache, computed from a header, without llama.cpp.

use super::gguf::{GgmlType, Header, Value};

/// llama.cpp rounds the context up to a multiple of this (`n_ctx` in `llama_context`).
const CONTEXT_STEP: u64 = 256;

/// More layers than any model has; a header that says more lies.
const MOST_LAYERS: u64 = 65_536;

/// Said of a header whose numbers cannot be true.
pub const IMPOSSIBLE: &str = "the header's numbers are impossible";

fn missing(key: &str) -> String {
    format!("the header does not say '{key}'")
}

/// Bytes of the KV cache for `context` tokens with K and V in the given formats, every layer
/// attending to the whole context: an upper bound where layers attend to a window only.
///
/// # Errors
/// A clause, when the header does not say enough, or the model keeps its state in another way.
pub fn kv_bytes(
    header: &Header,
    context: u32,
    format_k: GgmlType,
    format_v: GgmlType,
) -> Result<u64, String> {
    let other_state = |why| {
        let architecture = header.architecture();
        Err(format!("the architecture '{architecture}' keeps its state in another way ({why})"))
    };
    if header.get_own("ssm.state_size").is_some() || header.get_own("wkv.head_size").is_some() {
        return other_state("recurrent layers");
    }
    if header.get_own("attention.kv_lora_rank").is_some() {
        return other_state("compressed attention");
    }
    let layers = header.layers().ok_or_else(|| missing("block_count"))?;
    if layers > MOST_LAYERS {
        return Err(IMPOSSIBLE.to_owned());
    }
    let rows = u64::from(context).next_multiple_of(CONTEXT_STEP);
    let key_width = head_width(header, "attention.key_length")?;
    let value_width = head_width(header, "attention.value_length")?;
    let mut sum = 0_u64;
    for layer in 0..layers {
        let heads = kv_heads(header, layer)?;
        for (width, format) in [(key_width, format_k), (value_width, format_v)] {
            let bytes = heads
                .checked_mul(width)
                .and_then(|weights| weights.checked_mul(rows))
                .map(|weights| weights / format.block_weights())
                .and_then(|blocks| blocks.checked_mul(format.block_bytes()))
                .and_then(|bytes| sum.checked_add(bytes));
            sum = bytes.ok_or(IMPOSSIBLE)?;
        }
    }
    Ok(sum)
}

/// Width of one head: as the header says, or the model's width divided by its heads.
fn head_width(header: &Header, key: &str) -> Result<u64, String> {
    if let Some(width) = header.get_own(key).and_then(Value::as_count) {
        return Ok(width);
    }
    let width = header
        .get_own("embedding_length")
        .and_then(Value::as_count)
        .ok_or_else(|| missing("embedding_length"))?;
    let heads = of_layer(header.get_own("attention.head_count"), 0)
        .ok_or_else(|| missing("attention.head_count"))?;
    width.checked_div(heads).ok_or_else(|| IMPOSSIBLE.to_owned())
}

fn kv_heads(header: &Header, layer: u64) -> Result<u64, String> {
    of_layer(header.get_own("attention.head_count_kv"), layer)
        .or_else(|| of_layer(header.get_own("attention.head_count"), layer))
        .ok_or_else(|| missing("attention.head_count"))
}

/// A number that is the same for all layers, or one of a list with one for each.
fn of_layer(value: Option<&Value>, layer: u64) -> Option<u64> {
    match value? {
        Value::Array { first, .. } => first.get(usize::try_from(layer).ok()?)?.as_count(),
        value => value.as_count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gguf::testing::Builder;

    fn header(builder: &Builder) -> Header {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        builder.write(&path);
        Header::read(&path).unwrap()
    }

    fn kv(builder: &Builder, context: u32, format: &str) -> Result<u64, String> {
        let format = GgmlType::from_name(format).unwrap();
        kv_bytes(&header(builder), context, format, format)
    }

    #[test]
    fn the_cache_has_a_key_and_a_value_per_head_layer_and_token() {
        // 2 layers, 2 KV heads of width 64 / 4: 2 · 2 · 16 · 2 (K and V) weights per token.
        let model = Builder::model(7);
        assert_eq!(kv(&model, 1024, "F16"), Ok(128 * 1024 * 2));
        assert_eq!(kv(&model, 1000, "F16"), Ok(128 * 1024 * 2), "rounded up to 256 tokens");
        assert_eq!(kv(&model, 1024, "Q8_0"), Ok(128 * 1024 / 32 * 34));
    }

    #[test]
    fn widths_and_heads_are_taken_from_the_header_where_it_has_them() {
        let mut heads = 4_u32.to_le_bytes().to_vec();
        heads.extend(2_u64.to_le_bytes());
        heads.extend([1_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat());
        let model = Builder::new()
            .string("general.architecture", "x")
            .u32("x.block_count", 2)
            .u32("x.attention.key_length", 10)
            .u32("x.attention.value_length", 20)
            .key("x.attention.head_count_kv", 9, &heads);
        assert_eq!(kv(&model, 256, "F32"), Ok((1 + 3) * (10 + 20) * 256 * 4));
    }

    #[test]
    fn what_cannot_be_told_is_no_number() {
        let base = Builder::new().string("general.architecture", "x");
        assert_eq!(kv(&base, 256, "F16"), Err(missing("block_count")));
        let endless = base.clone().u32("x.block_count", u32::MAX);
        assert_eq!(kv(&endless, 256, "F16"), Err(IMPOSSIBLE.to_owned()));
        let recurrent = Builder::model(7).u32("llama.ssm.state_size", 16);
        let why = "the architecture 'llama' keeps its state in another way (recurrent layers)";
        assert_eq!(kv(&recurrent, 256, "F16"), Err(why.to_owned()));
        let headless = base.clone().u32("x.block_count", 1).u32("x.embedding_length", 8);
        let headless = headless.u32("x.attention.head_count", 0);
        assert_eq!(kv(&headless, 256, "F16"), Err(IMPOSSIBLE.to_owned()));
        let wide = base
            .u32("x.block_count", 60_000)
            .key("x.attention.key_length", 10, &u64::MAX.to_le_bytes())
            .key("x.attention.value_length", 10, &u64::MAX.to_le_bytes())
            .u32("x.attention.head_count", 7);
        assert_eq!(kv(&wide, 256, "F16"), Err(IMPOSSIBLE.to_owned()));
    }
}
