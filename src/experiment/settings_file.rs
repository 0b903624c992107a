//! `[settings]`: scalars or lists as the user wrote them, and their expansion into every combination.

use super::diagnostic::Problem;
use super::reader::{Located, RawValue, TableReader, nearest};
use super::settings::{CacheType, FlashAttention, Settings, SplitMode};
use std::ops::{Range, RangeInclusive};
use toml::de::DeValue;

/// More combinations than this are a slip, not a plan: with one minute each they take 17 hours.
const MOST_COMBINATIONS: usize = 1000;

/// ggml's `GGML_MAX_N_THREADS`.
const MOST_THREADS: u32 = 512;

/// Tokens; above it no llama.cpp batch makes sense.
const MOST_BATCH: u32 = 1_048_576;

/// One key's values; several are swept, none leave the default.
type Values<T> = Vec<Located<T>>;

/// What the user wrote in `[settings]`.
#[derive(Debug, Clone, Default)]
pub struct SettingsFile {
    threads: Values<Option<u32>>,
    gpu_layers: Values<i32>,
    flash_attention: Values<FlashAttention>,
    batch: Values<u32>,
    ubatch: Values<u32>,
    cache_type_k: Values<CacheType>,
    cache_type_v: Values<CacheType>,
    split_mode: Values<SplitMode>,
    main_gpu: Values<u32>,
    kv_offload: Values<bool>,
    mmap: Values<bool>,
    swa_full: Values<bool>,
}

/// One combination on the way, with the places of the values that may conflict.
#[derive(Debug, Clone, Default)]
struct Combination {
    settings: Settings,
    batch: Option<Range<usize>>,
    ubatch: Option<Range<usize>>,
    flash_attention: Option<Range<usize>>,
    cache_type_v: Option<Range<usize>>,
}

impl SettingsFile {
    /// Every key of the table.
    pub const KEYS: [&'static str; 12] = [
        "threads",
        "gpu_layers",
        "flash_attention",
        "batch",
        "ubatch",
        "cache_type_k",
        "cache_type_v",
        "split_mode",
        "main_gpu",
        "kv_offload",
        "mmap",
        "swa_full",
    ];

    /// Reads the table.
    pub fn read(table: &mut TableReader<'_>, problems: &mut Vec<Problem>) -> Self {
        Self {
            threads: values(table, "threads", problems, read_threads),
            gpu_layers: values(table, "gpu_layers", problems, read_gpu_layers),
            flash_attention: values(table, "flash_attention", problems, read_flash_attention),
            batch: values(table, "batch", problems, |raw, problems| {
                raw.count(1..=MOST_BATCH, problems)
            }),
            ubatch: values(table, "ubatch", problems, |raw, problems| {
                raw.count(1..=MOST_BATCH, problems)
            }),
            cache_type_k: values(table, "cache_type_k", problems, read_cache_type),
            cache_type_v: values(table, "cache_type_v", problems, read_cache_type),
            split_mode: values(table, "split_mode", problems, read_split_mode),
            main_gpu: values(table, "main_gpu", problems, |raw, problems| {
                raw.count(0..=1023, problems)
            }),
            kv_offload: values(table, "kv_offload", problems, RawValue::boolean),
            mmap: values(table, "mmap", problems, RawValue::boolean),
            swa_full: values(table, "swa_full", problems, RawValue::boolean),
        }
    }

    /// These settings, with every key they lack taken from `base`.
    pub fn over(&self, base: &Self) -> Self {
        fn or<T: Clone>(own: &[Located<T>], base: &[Located<T>]) -> Values<T> {
            if own.is_empty() { base.to_vec() } else { own.to_vec() }
        }
        Self {
            threads: or(&self.threads, &base.threads),
            gpu_layers: or(&self.gpu_layers, &base.gpu_layers),
            flash_attention: or(&self.flash_attention, &base.flash_attention),
            batch: or(&self.batch, &base.batch),
            ubatch: or(&self.ubatch, &base.ubatch),
            cache_type_k: or(&self.cache_type_k, &base.cache_type_k),
            cache_type_v: or(&self.cache_type_v, &base.cache_type_v),
            split_mode: or(&self.split_mode, &base.split_mode),
            main_gpu: or(&self.main_gpu, &base.main_gpu),
            kv_offload: or(&self.kv_offload, &base.kv_offload),
            mmap: or(&self.mmap, &base.mmap),
            swa_full: or(&self.swa_full, &base.swa_full),
        }
    }

    /// Every combination of the values, the last key varying fastest.
    pub fn combinations(&self, problems: &mut Vec<Problem>) -> Vec<Settings> {
        let lengths = [
            self.threads.len().max(1),
            self.gpu_layers.len().max(1),
            self.flash_attention.len().max(1),
            self.batch.len().max(1),
            self.ubatch.len().max(1),
            self.cache_type_k.len().max(1),
            self.cache_type_v.len().max(1),
            self.split_mode.len().max(1),
            self.main_gpu.len().max(1),
            self.kv_offload.len().max(1),
            self.mmap.len().max(1),
            self.swa_full.len().max(1),
        ];
        let count = lengths.iter().fold(1_usize, |product, &length| product.saturating_mul(length));
        if count > MOST_COMBINATIONS {
            problems.push(Problem::new(
                self.first_span(),
                format!("'settings' has {count} combinations; at most {MOST_COMBINATIONS} are run"),
            ));
            return Vec::new();
        }
        let mut all = vec![Combination::default()];
        sweep(&mut all, &self.threads, |one, value| one.settings.threads = value.value);
        sweep(&mut all, &self.gpu_layers, |one, value| one.settings.gpu_layers = value.value);
        sweep(&mut all, &self.flash_attention, |one, value| {
            one.settings.flash_attention = value.value;
            one.flash_attention = Some(value.span.clone());
        });
        sweep(&mut all, &self.batch, |one, value| {
            one.settings.batch = value.value;
            one.batch = Some(value.span.clone());
        });
        sweep(&mut all, &self.ubatch, |one, value| {
            one.settings.ubatch = value.value;
            one.ubatch = Some(value.span.clone());
        });
        sweep(&mut all, &self.cache_type_k, |one, value| one.settings.cache_type_k = value.value);
        sweep(&mut all, &self.cache_type_v, |one, value| {
            one.settings.cache_type_v = value.value;
            one.cache_type_v = Some(value.span.clone());
        });
        sweep(&mut all, &self.split_mode, |one, value| one.settings.split_mode = value.value);
        sweep(&mut all, &self.main_gpu, |one, value| one.settings.main_gpu = value.value);
        sweep(&mut all, &self.kv_offload, |one, value| one.settings.kv_offload = value.value);
        sweep(&mut all, &self.mmap, |one, value| one.settings.mmap = value.value);
        sweep(&mut all, &self.swa_full, |one, value| one.settings.swa_full = value.value);

        // One report per kind of conflict: a sweep repeats it for every other key's value.
        problems.extend(all.iter().find_map(Combination::batch_conflict));
        problems.extend(all.iter().find_map(Combination::cache_conflict));
        all.into_iter().map(|combination| combination.settings).collect()
    }

    fn first_span(&self) -> Range<usize> {
        let spans = [
            first(&self.threads),
            first(&self.gpu_layers),
            first(&self.flash_attention),
            first(&self.batch),
            first(&self.ubatch),
            first(&self.cache_type_k),
            first(&self.cache_type_v),
            first(&self.split_mode),
            first(&self.main_gpu),
            first(&self.kv_offload),
            first(&self.mmap),
            first(&self.swa_full),
        ];
        spans.into_iter().flatten().min_by_key(|span| span.start).unwrap_or(0..0)
    }
}

impl Combination {
    /// llama.cpp computes at most `batch` tokens at once, whatever `ubatch` says.
    fn batch_conflict(&self) -> Option<Problem> {
        let Settings { batch, ubatch, .. } = self.settings;
        if ubatch <= batch {
            return None;
        }
        let span = self.ubatch.clone().or_else(|| self.batch.clone())?;
        let origin = |written: bool| if written { "" } else { " (the default)" };
        Some(
            Problem::new(
                span,
                format!(
                    "'settings.ubatch' is {ubatch}{}, more than 'settings.batch', which is {batch}{}",
                    origin(self.ubatch.is_some()),
                    origin(self.batch.is_some()),
                ),
            )
            .help("ubatch tokens of a batch are computed at once, so ubatch is at most batch"),
        )
    }

    /// llama.cpp refuses a quantized V cache without flash attention.
    fn cache_conflict(&self) -> Option<Problem> {
        let quantized = !matches!(
            self.settings.cache_type_v,
            CacheType::F32 | CacheType::F16 | CacheType::Bf16
        );
        if !quantized || self.settings.flash_attention != FlashAttention::Off {
            return None;
        }
        let span = self.cache_type_v.clone().or_else(|| self.flash_attention.clone())?;
        let name = self.settings.cache_type_v.name();
        Some(
            Problem::new(
                span,
                format!("'settings.cache_type_v' is {name}, but 'settings.flash_attention' is off"),
            )
            .help("llama.cpp quantizes the V cache only with flash_attention = \"on\" or \"auto\""),
        )
    }
}

fn values<'a, T: PartialEq>(
    table: &mut TableReader<'a>,
    key: &'static str,
    problems: &mut Vec<Problem>,
    read: impl Fn(&RawValue<'a>, &mut Vec<Problem>) -> Option<Located<T>>,
) -> Values<T> {
    let Some(raw) = table.value(key) else { return Vec::new() };
    let items = raw.items();
    if items.is_empty() {
        problems.push(raw.problem("is an empty list").help("leave the key out for the default"));
    }
    let mut kept: Vec<Located<T>> = Vec::new();
    for item in &items {
        let Some(value) = read(item, problems) else { continue };
        if kept.iter().any(|other| other.value == value.value) {
            problems.push(value.problem("has this value twice"));
        } else {
            kept.push(value);
        }
    }
    kept
}

fn first<T>(values: &[Located<T>]) -> Option<Range<usize>> {
    values.first().map(|value| value.span.clone())
}

fn sweep<T>(
    all: &mut Vec<Combination>,
    values: &[Located<T>],
    set: impl Fn(&mut Combination, &Located<T>),
) {
    if values.is_empty() {
        return;
    }
    *all = all
        .iter()
        .flat_map(|combination| {
            values.iter().map(|value| {
                let mut combination = combination.clone();
                set(&mut combination, value);
                combination
            })
        })
        .collect();
}

fn read_threads(raw: &RawValue<'_>, problems: &mut Vec<Problem>) -> Option<Located<Option<u32>>> {
    if raw.value.as_str() == Some("auto") {
        return Some(raw.with(None));
    }
    raw.count(1..=MOST_THREADS, problems).map(|count| raw.with(Some(count.value)))
}

fn read_gpu_layers(raw: &RawValue<'_>, problems: &mut Vec<Problem>) -> Option<Located<i32>> {
    const RANGE: RangeInclusive<i64> = -1..=9999;
    let layers = raw.integer(&RANGE, problems)?;
    i32::try_from(layers.value).ok().map(|value| layers.with(value))
}

fn read_flash_attention(
    raw: &RawValue<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Located<FlashAttention>> {
    if let DeValue::Boolean(on) = raw.value {
        return Some(raw.with(if *on { FlashAttention::On } else { FlashAttention::Off }));
    }
    let choices =
        [("auto", FlashAttention::Auto), ("on", FlashAttention::On), ("off", FlashAttention::Off)];
    choose(raw, &choices, problems)
}

fn read_cache_type(raw: &RawValue<'_>, problems: &mut Vec<Problem>) -> Option<Located<CacheType>> {
    let choices = CacheType::ALL.map(|cache_type| (cache_type.name(), cache_type));
    choose(raw, &choices, problems)
}

fn read_split_mode(raw: &RawValue<'_>, problems: &mut Vec<Problem>) -> Option<Located<SplitMode>> {
    let choices = [("none", SplitMode::None), ("layer", SplitMode::Layer), ("row", SplitMode::Row)];
    choose(raw, &choices, problems)
}

fn choose<T: Copy>(
    raw: &RawValue<'_>,
    choices: &[(&'static str, T)],
    problems: &mut Vec<Problem>,
) -> Option<Located<T>> {
    let text = raw.string(problems)?;
    let found = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(&text.value));
    if let Some((_, value)) = found {
        return Some(text.with(*value));
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let near = nearest(&text.value, names.iter().copied());
    let help = near.map_or_else(
        || format!("one of: {}", names.join(", ")),
        |name| format!("did you mean '{name}'?"),
    );
    problems.push(text.problem(format!("is '{}', which is no choice here", text.value)).help(help));
    None
}
