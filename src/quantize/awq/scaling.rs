//! Relation by relation: sums over inputs, scales, limits, and the changes to tensors that follow.
//!
//! Scaling leaves the model's function as it is, so every relation is searched with the inputs of the original, in any
//! order. As many relations as fit in memory share one evaluation of the text. Uses everything beside it; used by the
//! entry point.

use super::change::{self, Change, Changes};
use super::clip::{self, LimitSearch};
use super::inputs::{Inputs, Product};
use super::relations::{self, Relation, Relations, Unscaled};
use super::search::{Matrix, ScaleSearch};
use super::statistics::{Statistics, Tap};
use super::streams::Evaluator;
use super::{AwqParameters, AwqRequest};
use crate::engine::LoadExtent;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::blocks;
use crate::engine::llama::gguf_file::GgufInput;
use crate::engine::llama::graph;
use crate::engine::llama::model::Model;
use crate::engine::llama::quantize::Importance;
use crate::experiment::settings::Settings;
use crate::quantize::streams::chunk_length;
use crate::quantize::sums::runs;
use crate::quantize::{MethodError, MethodReport, Progress, fraction, shape};
use faer::Mat;
use rayon::ThreadPool;
use std::collections::HashMap;
use std::ops::Range;

#[derive(Debug)]
pub(super) struct Scaling<'a> {
    pub(super) backend: Backend,
    pub(super) request: &'a AwqRequest<'a>,
    /// The original.
    pub(super) source: &'a GgufInput,
    /// The original as llama.cpp rounds it: the formats of tensors.
    pub(super) draft: &'a GgufInput,
    pub(super) pool: &'a ThreadPool,
}

/// What was found for a model.
#[derive(Debug)]
pub(super) struct Scaled {
    /// The changes to tensors.
    pub(super) changes: Changes,
    /// The importance matrix of the changed model.
    pub(super) importance: Option<Vec<Importance>>,
    /// The weights that are scaled, and those that are left.
    pub(super) report: MethodReport,
}

/// A relation, and the weights at which the inputs of its products are summed.
struct Job {
    relation: Relation,
    taps: Vec<Tap>,
}

impl Scaling<'_> {
    /// Finds scales and limits.
    pub(super) fn run(
        &self,
        tokens: &[i32],
        mut on_progress: impl FnMut(Progress),
    ) -> Result<Scaled, MethodError> {
        let AwqRequest { rounding, plan, parameters, .. } = self.request;
        let settings =
            Settings { threads: Some(rounding.threads), gpu_layers: 0, ..Settings::default() };
        let model = Model::load(self.backend, rounding.input, &settings, LoadExtent::Everything)?;
        let relations = relations::find(&graph::of(&model, rounding.threads)?);
        let mut report = MethodReport::default();
        let jobs = self.jobs(relations, &mut report);
        let bytes: Vec<u64> =
            jobs.iter().map(|job| job.taps.iter().map(Tap::bytes).sum()).collect();
        let runs = runs(&bytes, parameters.memory);
        let chunks: Vec<&[i32]> = tokens.chunks(chunk_length(plan)).collect();
        let evaluator = Evaluator::new(&model, rounding.threads, plan.context, chunks.len())?;
        let mut memory = self.memory(&jobs, &bytes, &runs);
        memory.push(("the texts that are evaluated side by side".to_owned(), evaluator.bytes));
        on_progress(Progress::Memory(memory));
        let mut progress = |run, part, what: &str| {
            on_progress(Progress::Fraction(fraction(run, part, runs.len()), what.to_owned()));
        };
        let mut changes = Changes::new();
        for (run, range) in runs.iter().enumerate() {
            let jobs = &jobs[range.clone()];
            let taps: Vec<Tap> = jobs.iter().flat_map(|job| job.taps.iter().cloned()).collect();
            let sums = evaluator
                .gather(&chunks, &taps, |part| progress(run, 0.5 * part, "calibration text"))?;
            for (done, job) in jobs.iter().enumerate() {
                self.scale(job, &sums, &mut changes)?;
                let part = 0.5 + 0.5 * fraction(done, 1.0, jobs.len());
                progress(run, part, &job.relation.producer.weight);
            }
        }
        let importance = self.importance(&jobs, &changes);
        Ok(Scaled { changes, importance, report })
    }

    /// The model, the largest sums of one evaluation, and the largest relation's weights with a copy.
    fn memory(&self, jobs: &[Job], bytes: &[u64], runs: &[Range<usize>]) -> Vec<(String, u64)> {
        let sums = runs.iter().map(|run| bytes[run.clone()].iter().sum::<u64>()).max();
        let weights = |job: &Job| -> u64 {
            let products = job.relation.products.iter().filter_map(|name| self.source.find(name));
            products.map(|tensor| tensor.entry.weights * size_of::<f32>() as u64).sum()
        };
        let model: u64 = self.source.tensors().iter().map(|tensor| tensor.entry.bytes).sum();
        vec![
            ("the weights of the model".to_owned(), model),
            ("sums over inputs".to_owned(), sums.unwrap_or(0)),
            ("weights in F32".to_owned(), 2 * jobs.iter().map(weights).max().unwrap_or(0)),
        ]
    }

    /// The relations that can be scaled, in the order of the graph.
    fn jobs(&self, relations: Relations, report: &mut MethodReport) -> Vec<Job> {
        let order: HashMap<String, usize> =
            relations.order.into_iter().enumerate().map(|(index, name)| (name, index)).collect();
        let mut keep = |weight: &str, reason: String| {
            if let Some(tensor) = self.draft.find(weight) {
                report.keep(&tensor.entry, None, reason);
            }
        };
        for Unscaled { weight, reason } in relations.unscaled {
            keep(&weight, reason);
        }
        let (mut jobs, mut chosen) = (Vec::new(), 0);
        for relation in relations.found {
            if let Some(reason) = self.obstacle(&relation) {
                relation.products.iter().for_each(|weight| keep(weight, reason.clone()));
                continue;
            }
            let is_rounded = |name: &&String| self.is_rounded(name);
            chosen += relation.products.iter().filter(is_rounded).count() as u64;
            let tap = |weight: &String| {
                let [_, _, matrices] = shape(&self.source.find(weight)?.entry);
                Some(Tap { weight: weight.clone(), columns: relation.columns, matrices })
            };
            // One weight stands for all with the same inputs: the first dense one and the first of experts.
            let all: Vec<Tap> = relation.products.iter().filter_map(tap).collect();
            let dense = all.iter().find(|tap| tap.matrices <= 1);
            let experts = all.iter().find(|tap| tap.matrices > 1);
            let taps = dense.into_iter().chain(experts).cloned().collect();
            jobs.push(Job { relation, taps });
        }
        let last =
            |job: &Job| job.taps.iter().filter_map(|tap| order.get(&tap.weight)).max().copied();
        jobs.sort_by_key(last);
        report.chosen = chosen;
        jobs
    }

    /// Why a relation is not scaled.
    fn obstacle(&self, relation: &Relation) -> Option<String> {
        if relation.producer.first_row.is_some() && !self.request.parameters.through_matrices {
            return Some("scales are taken out of norms only".to_owned());
        }
        let products = relation.products.iter().map(String::as_str);
        let biases = relation.biases.iter().map(|bias| bias.weight.as_str());
        let mut names = products.chain([relation.producer.weight.as_str()]).chain(biases);
        if let Some(missing) = names.find(|name| self.source.find(name).is_none()) {
            return Some(format!("'{missing}' is not in the file"));
        }
        let is_float = !relation.products.iter().any(|name| self.is_rounded(name));
        is_float.then(|| "it is stored in floating point".to_owned())
    }

    fn is_rounded(&self, name: &str) -> bool {
        self.draft.find(name).is_some_and(|tensor| tensor.entry.format.block_weights() > 1)
    }

    /// Finds the scales and limits of one relation.
    fn scale(
        &self,
        job: &Job,
        sums: &Statistics,
        changes: &mut Changes,
    ) -> Result<(), MethodError> {
        let AwqParameters { exponents, weights, limits, .. } = self.request.parameters;
        let relation = &job.relation;
        let inputs = Inputs::new(&job.taps, sums);
        let products: Vec<Product> = relation
            .products
            .iter()
            .filter_map(|name| self.product(name).transpose())
            .collect::<Result<_, _>>()?;
        let mut scales = Vec::new();
        for set in 0..relation.experts {
            let only = (relation.experts > 1).then_some(set);
            let matrices: Vec<Matrix> =
                products.iter().flat_map(|product| self.matrices(product, &inputs, only)).collect();
            let sizes = inputs.sizes(only);
            let search = ScaleSearch {
                relation,
                matrices: &matrices,
                seconds: &inputs.seconds,
                sizes: &sizes,
            };
            let found = self.pool.install(|| search.run(exponents, weights))?;
            scales.extend(found.values);
        }
        change::add_scales(changes, relation, &scales);
        if limits.steps > 0 {
            for product in &products {
                let Some(change) = changes.get_mut(&product.name) else { continue };
                self.clip(product, relation, &inputs, &scales, change)?;
            }
        }
        Ok(())
    }

    /// A weight that will be rounded; `None` for others.
    fn product(&self, name: &str) -> Result<Option<Product>, MethodError> {
        let (Some(tensor), Some(rounded)) = (self.source.find(name), self.draft.find(name)) else {
            return Ok(None);
        };
        let format = rounded.entry.format;
        if format.block_weights() == 1 {
            return Ok(None);
        }
        let [columns, rows, matrices] = shape(&tensor.entry);
        Ok(Some(Product {
            name: name.to_owned(),
            format,
            values: blocks::values(tensor.entry.format, self.source.bytes(tensor))?,
            columns,
            rows,
            matrices,
        }))
    }

    /// A weight's matrices for the search, or one of them. Each is weighted by the vectors it sees, and all together as
    /// much as any other weight.
    fn matrices(&self, product: &Product, inputs: &Inputs<'_>, only: Option<usize>) -> Vec<Matrix> {
        let most = self.request.parameters.rows.max(1);
        let mut matrices: Vec<Matrix> = (0..product.matrices)
            .filter(|index| only.is_none_or(|only| only == *index))
            .map(|index| {
                let moment = inputs.moment(product, index);
                Matrix {
                    format: product.format,
                    columns: product.columns,
                    values: product.sample(index, most),
                    importance: product.importance(self.request.rounding.importance, index, None),
                    moment,
                    weight: inputs.shares[moment],
                }
            })
            .collect();
        let power = |matrix: &Matrix| {
            let second = inputs.seconds[matrix.moment].as_ref();
            matrix.weight * self.pool.install(|| matrix.power(second))
        };
        let power: f64 = matrices.iter().map(power).sum();
        for matrix in &mut matrices {
            matrix.weight /= power.max(f64::MIN_POSITIVE);
        }
        matrices
    }

    /// Finds the limits of one weight, for scales that are already chosen.
    fn clip(
        &self,
        product: &Product,
        relation: &Relation,
        inputs: &Inputs<'_>,
        scales: &[f32],
        change: &mut Change,
    ) -> Result<(), MethodError> {
        let AwqRequest { rounding, parameters, .. } = self.request;
        let mut values = product.values.clone();
        change.apply(&mut values, product.columns, product.rows);
        let mut limits: Option<clip::Limits> = None;
        for (index, values) in values.chunks_exact(product.rows * product.columns).enumerate() {
            let set = if relation.experts > 1 { index } else { 0 };
            let columns = relation.spread(&scales[set * relation.channels..][..relation.channels]);
            let second = &inputs.seconds[inputs.moment(product, index)];
            let second = Mat::from_fn(product.columns, product.columns, |i, j| {
                second[(i, j)] / (columns[i] * columns[j])
            });
            let importance = product.importance(rounding.importance, index, Some(&columns));
            let search = LimitSearch {
                format: product.format,
                values,
                importance: importance.as_deref(),
                second: &second,
            };
            let found = self.pool.install(|| search.run(parameters.limits))?;
            match &mut limits {
                Some(limits) => limits.append(found.limits),
                None => limits = Some(found.limits),
            }
        }
        change.limits = limits;
        Ok(())
    }

    /// The importance matrix of the scaled model: its inputs are divided by the scales.
    fn importance(&self, jobs: &[Job], changes: &Changes) -> Option<Vec<Importance>> {
        let mut all = self.request.rounding.importance?.to_vec();
        for entry in &mut all {
            let job = jobs.iter().find(|job| job.relation.products.contains(&entry.weight));
            if let (Some(job), Some(change)) = (job, changes.get(&entry.weight)) {
                change.divide_squares(&mut entry.values, job.relation.columns);
            }
        }
        Some(all)
    }
}
