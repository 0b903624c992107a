//! How a plan is shown.

use super::Planned;
use super::speed::Speeds;
use super::speeds_shown::{self, judged};
use crate::cli::output;
use crate::decide::fit::error_of;
use crate::decide::place::Place;
use crate::error::Error;
use crate::experiment::settings::CacheType;
use crate::model::engine_name::EngineName;
use crate::model::gguf::Header;
use crate::orchestrator::plan::Origin;
use crate::report::sanitize;
use crate::report::table::Align::{Left, Right};
use crate::report::table::{Column, Group, Table};
use crate::report::terminal::{self, Look};
use crate::units::{count, format_bytes, significant, to_f64};
use crate::workload::measured::{BufferMemory, PredictedMemory};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// One row: a variant at a place.
pub(super) struct Row<'a> {
    pub(super) planned: &'a Planned,
    pub(super) place: &'a Place,
    /// Which of the places it is.
    pub(super) at: usize,
}

impl Row<'_> {
    /// What is predicted of what was asked.
    fn asked(&self) -> Option<&PredictedMemory> {
        self.planned.forecast.as_ref().ok()?.first()?.1.as_ref().ok()
    }

    fn of_cache(&self, cache_type: CacheType) -> Option<&PredictedMemory> {
        let forecast = self.planned.forecast.as_ref().ok()?;
        forecast.iter().find(|(own, _)| *own == cache_type)?.1.as_ref().ok()
    }

    fn header(&self) -> Option<&Header> {
        self.planned.header.as_ref().ok()
    }

    /// Tokens per second at which the place's memory gives the weights of one token after the other.
    pub(super) fn most_tokens_per_second(&self) -> Option<f64> {
        let header = self.header().filter(|it| it.architecture_class().generates())?;
        let bytes = header.bytes_per_token();
        (bytes > 0).then_some(self.place.bandwidth? / to_f64(bytes))
    }
}

/// What a variant is called among others.
pub(super) fn name_of(planned: &Planned, all: &[Planned]) -> String {
    let variant = &planned.variant;
    let is_same = |it: &Planned| it.variant.model == variant.model;
    sanitize(&if all.iter().all(is_same) { variant.label.clone() } else { variant.name() })
}

pub(super) fn rows<'a>(planned: &'a [Planned], places: &'a [Place]) -> Vec<Row<'a>> {
    let at_place = |(at, place): (usize, &'a Place)| {
        planned.iter().map(move |planned| Row { planned, place, at })
    };
    places.iter().enumerate().flat_map(at_place).collect()
}

fn sum(predicted: &PredictedMemory, part: fn(&BufferMemory) -> u64) -> u64 {
    predicted.buffers.iter().map(part).fold(0, u64::saturating_add)
}

pub(super) fn table(planned: &[Planned], places: &[Place], speeds: &Speeds) -> String {
    let rows = rows(planned, places);
    let bytes = |bytes: Option<u64>| bytes.map(format_bytes);
    let column = |title: &str, align, cell: &dyn Fn(&Row<'_>) -> Option<String>| {
        Column::of_words(title, align, rows.iter().map(cell).collect())
    };
    let part = |title: &str, part: fn(&BufferMemory) -> u64| {
        column(title, Right, &|row| bytes(row.asked().map(|it| sum(it, part))))
    };
    let mut columns = vec![column("variant", Left, &|row| Some(name_of(row.planned, planned)))];
    if places.len() > 1 {
        columns.push(column("on", Left, &|row| Some(sanitize(&row.place.name))));
    }
    columns.push(part("weights", |it| it.weights_bytes));
    let cache_types = planned.first().map_or(&[][..], |it| &it.demand.cache_types);
    for &cache_type in cache_types {
        let title = format!("KV {}", <&str>::from(cache_type));
        columns.push(column(&title, Right, &|row| {
            bytes(row.of_cache(cache_type).map(|it| sum(it, |it| it.kv_bytes)))
        }));
    }
    columns.push(part("compute", |it| it.compute_bytes));
    columns.push(column("process", Right, &|row| bytes(row.asked()?.process_bytes)));
    // Targets have one each; this machine may have GPUs besides.
    let pools = places.iter().map(|place| &place.pools[..]).max_by_key(|pools| pools.len());
    let pools = pools.unwrap_or_default();
    for (at, pool) in pools.iter().enumerate() {
        let title =
            if pools.len() == 1 { "peak".to_owned() } else { format!("peak {}", pool.name) };
        columns.push(column(&title, Right, &|row| {
            bytes(row.place.shares(row.asked()?).get(at).copied())
        }));
    }
    if bounds(places) {
        columns.push(column("t/s at most", Right, &|row| {
            let most = row.most_tokens_per_second().filter(|_| !row.place.is_here());
            most.map(|it| significant(it, 3))
        }));
    }
    columns.push(column("verdict", Left, &|row| {
        let verdict = row.planned.verdicts.get(row.at)?;
        Some(sanitize(&verdict.in_words(row.planned.demand.layers)))
    }));
    let all = vec![Group { heading: String::new(), rows: (0..rows.len()).collect() }];
    let mut text = terminal::text(&Table { columns, groups: all }, &Look::default());
    text.push_str(&notes(planned, places));
    text.push_str(&speeds_shown::table(planned, places, speeds));
    text.push_str(&speeds_shown::view(planned, places, speeds));
    text
}

/// Whether an upper bound of speed is worth a column: of this machine there is better evidence, or a command for it.
fn bounds(places: &[Place]) -> bool {
    places.iter().any(|place| place.bandwidth.is_some() && !place.is_here())
}

/// Where the numbers come from.
fn notes(planned: &[Planned], places: &[Place]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for place in places {
        for pool in &place.pools {
            let there = pool.there.map_or_else(|| "not known".to_owned(), format_bytes);
            let name = if places.len() > 1 { &place.name } else { &pool.name };
            let _ = writeln!(text, "memory of {}: {there} ({})", sanitize(name), pool.origin);
        }
    }
    let contexts: BTreeSet<u32> = planned.iter().map(|it| it.demand.context).collect();
    let contexts: Vec<String> = contexts.iter().map(ToString::to_string).collect();
    if let Some(Planned { demand, .. }) = planned.first() {
        let cache_type = demand.cache_types.first().copied().unwrap_or_default();
        let _ = writeln!(
            text,
            "peak: weights, a {} KV cache and compute buffers for {} of {} tokens, as llama.cpp plans them, and the process \
             itself\nit fits if 2 % more are there, {} at least: what a prediction may be wrong by",
            <&str>::from(cache_type),
            count(demand.parallel, "sequence"),
            contexts.join(" or "),
            format_bytes(error_of(0)),
        );
    }
    if planned.iter().any(|it| it.variant.engine.name == EngineName::OnnxRuntime) {
        text.push_str(
            "of ONNX the graph says the type of the cache, under that of the first column; compute is estimated\n",
        );
    }
    if bounds(places) {
        text.push_str(
            "t/s at most: the memory's bandwidth over the bytes of weights that a token reads; only weights that caches \
             hold are read faster\n",
        );
    }
    let beyond = planned.iter().find_map(|it| {
        let own = it.header.as_ref().ok()?.context_length()?;
        (u64::from(it.demand.context) > own).then_some((&it.variant.model, own))
    });
    if let Some((model, own)) = beyond {
        let _ = writeln!(text, "note: {} was trained for {own} tokens of context", sanitize(model));
    }
    for it in planned.iter().filter(|it| it.variant.projector.is_some()).take(1) {
        let _ =
            writeln!(text, "note: the projector of {} comes on top", sanitize(&it.variant.model));
    }
    text
}

pub(super) fn json(
    planned: &[Planned],
    places: &[Place],
    speeds: &Speeds,
) -> Result<String, Error> {
    let rows = rows(planned, places);
    let shown =
        rows.iter().enumerate().map(|(at, row)| row_json(row, speeds, at % planned.len().max(1)));
    let rows: Vec<Value> = shown.collect();
    output::json("quantbench.plan", json!({ "places": places, "variants": rows }))
}

/// A row; `variant` is which of the variants it is of.
fn row_json(row: &Row<'_>, speeds: &Speeds, variant: usize) -> Value {
    let Row { planned, place, at } = row;
    let (word, generation) = judged(row, speeds, variant);
    let speed = place.is_here().then(|| {
        let told = speeds.of.get(variant).into_iter().flatten().map(|speed| match speed {
            Ok(speed) => json!(speed),
            Err(reason) => json!({ "unknown": reason }),
        });
        let told: Vec<Value> = told.collect();
        json!({ "threads": speeds.threads, "profile": speeds.measured, "tests": told })
    });
    let forecast = planned.forecast.as_ref().map(|forecast| {
        let of_cache = |(cache_type, predicted): &(CacheType, Result<PredictedMemory, String>)| {
            let shown = predicted.as_ref().map(|it| prediction(it, place));
            let mut shown = shown.unwrap_or_else(|reason| json!({ "unknown": reason }));
            shown["cache_type"] = json!(cache_type);
            shown
        };
        forecast.iter().map(of_cache).collect::<Vec<_>>()
    });
    json!({
        "model": planned.variant.model,
        "variant": planned.variant.label,
        "file": match planned.variant.origin {
            Origin::Ready(_) => "ready",
            Origin::Remote(..) => "to_fetch",
            Origin::Make { .. } => "to_make",
        },
        "on": place.name,
        "context": planned.demand.context,
        "parallel": planned.demand.parallel,
        "memory": forecast.unwrap_or_default(),
        "bytes_per_token": row.header().map(Header::bytes_per_token),
        "most_tokens_per_second": row.most_tokens_per_second(),
        "speed": speed,
        "generation": generation,
        "word": word,
        "quality": speeds.quality.get(variant),
        "result": planned.verdicts.get(*at),
    })
}

fn prediction(predicted: &PredictedMemory, place: &Place) -> Value {
    let shares = place.shares(predicted);
    let needed = place.pools.iter().zip(shares);
    json!({
        "weights_bytes": sum(predicted, |it| it.weights_bytes),
        "kv_bytes": sum(predicted, |it| it.kv_bytes),
        "compute_bytes": sum(predicted, |it| it.compute_bytes),
        "process_bytes": predicted.process_bytes,
        "gpu_process_bytes": predicted.gpu_process_bytes,
        "buffers": predicted.buffers,
        "needed": needed.map(|(pool, share)| json!({
            "memory": pool.name, "peak_bytes": share, "error_bytes": error_of(share), "there_bytes": pool.there,
        })).collect::<Vec<_>>(),
    })
}
