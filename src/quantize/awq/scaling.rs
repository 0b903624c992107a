//! Relation after relation: sums over inputs, scales, limits, and what they do to the tensors.
//!
//! Scales change no function, so every relation is searched with the inputs of the original, and in any order; sums for
//! as many as fit in memory come from one evaluation of the text. Uses everything beside it; used by the entry point.

use super::change::{self, Change, Changes};
use super::clip::{self, Problem};
use super::inputs::{Inputs, Product, matrices};
use super::lanes::Lanes;
use super::relations::{self, Producer, Relation, Relations, Unscaled};
use super::report::{Clipped, Group, Report};
use super::search::{Matrix, Search};
use super::statistics::{self, Statistics, Tap};
use super::{AwqError, Request, Told};
use crate::engine::LoadExtent;
use crate::engine::llama::backend::Backend;
use crate::engine::llama::gguf_file::GgufInput;
use crate::engine::llama::graph;
use crate::engine::llama::model::Model;
use crate::engine::llama::quantize::Importance;
use crate::experiment::settings::Settings;
use faer::Mat;
use rayon::ThreadPool;
use std::collections::HashMap;
use std::ops::Range;
use std::time::Instant;

/// What is worked on.
#[derive(Debug)]
pub struct Scaling<'a> {
    /// llama.cpp.
    pub backend: Backend,
    /// What was asked for.
    pub request: &'a Request<'a>,
    /// The original.
    pub source: &'a GgufInput,
    /// The original as llama.cpp rounds it, for the formats.
    pub formats: &'a GgufInput,
    /// Threads for the searches.
    pub pool: &'a ThreadPool,
}

/// A relation with where its products' inputs are summed.
struct Job {
    relation: Relation,
    taps: Vec<Tap>,
}

impl Scaling<'_> {
    /// Finds what becomes of every tensor, and the importance matrix that goes with it, from the tokens of the
    /// calibration.
    ///
    /// # Errors
    /// When the model cannot be evaluated or rounded.
    pub fn run(
        &self,
        tokens: &[i32],
        report: &mut Report,
        mut told: impl FnMut(Told),
    ) -> Result<(Changes, Option<Vec<Importance>>), AwqError> {
        report.tokens = tokens.len();
        let settings =
            Settings { threads: Some(self.request.threads), gpu_layers: 0, ..Settings::default() };
        let model =
            Model::load(self.backend, self.request.source, &settings, LoadExtent::Everything)?;
        let relations = relations::find(&graph::of(&model, self.request.threads)?);
        let jobs = self.jobs(relations, &mut report.unscaled);
        let bytes: Vec<u64> =
            jobs.iter().map(|job| job.taps.iter().map(Tap::bytes).sum()).collect();
        let runs = statistics::runs(&bytes, self.request.parameters.memory);
        let length = u32::try_from(self.request.context).unwrap_or(u32::MAX);
        let pieces: Vec<&[i32]> = tokens.chunks(self.request.context.max(1)).collect();
        let lanes = Lanes::new(&model, self.request.threads, length, pieces.len())?;
        report.passes = runs.len();
        let mut changes = Changes::new();
        #[expect(clippy::cast_precision_loss, reason = "a few passes")]
        let share = |run: usize, part: f64| (run as f64 + part) / runs.len() as f64;
        let mut memory = self.memory(&jobs, &bytes, &runs);
        memory.push(("the texts that are evaluated side by side".to_owned(), lanes.bytes));
        told(Told::Memory(memory));
        let mut progress =
            |run, part, what: &str| told(Told::Progress(share(run, part), what.to_owned()));
        for (run, range) in runs.iter().enumerate() {
            let jobs = &jobs[range.clone()];
            let began = Instant::now();
            let taps: Vec<Tap> = jobs.iter().flat_map(|job| job.taps.iter().cloned()).collect();
            let sums = lanes.gather(&pieces, &taps, |part| {
                progress(run, 0.5 * part, "calibration text");
            })?;
            report.times.evaluating += began.elapsed();
            for (done, job) in jobs.iter().enumerate() {
                self.relation(job, &sums, &mut changes, report)?;
                #[expect(clippy::cast_precision_loss, reason = "a few thousand jobs")]
                let part = (done + 1) as f64 / jobs.len() as f64;
                progress(run, 0.5 + 0.5 * part, job.relation.producer.weight());
            }
        }
        let importance = self.importance(&jobs, &changes);
        Ok((changes, importance))
    }

    /// What is kept in memory: the model, the most sums of one evaluation of the text, and the largest
    /// relation's weights with a copy.
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

    /// The relations to work on, with taps in the order of the graph.
    fn jobs(&self, relations: Relations, unscaled: &mut Vec<Unscaled>) -> Vec<Job> {
        let order: HashMap<String, usize> =
            relations.order.into_iter().enumerate().map(|(index, name)| (name, index)).collect();
        unscaled.extend(relations.unscaled);
        let mut jobs = Vec::new();
        for relation in relations.found {
            if let Some(reason) = self.obstacle(&relation) {
                unscaled.extend(
                    relation
                        .products
                        .iter()
                        .map(|weight| Unscaled { weight: weight.clone(), reason: reason.clone() }),
                );
                continue;
            }
            let experts =
                |name: &&String| self.source.find(name).is_some_and(|tensor| matrices(tensor) > 1);
            let plain = relation.products.iter().find(|name| !experts(name));
            let expert = relation.products.iter().find(experts);
            let taps = plain
                .into_iter()
                .chain(expert)
                .filter_map(|name| {
                    let matrices = matrices(self.source.find(name)?);
                    Some(Tap { weight: name.clone(), columns: relation.columns, matrices })
                })
                .collect();
            jobs.push(Job { relation, taps });
        }
        let last =
            |job: &Job| job.taps.iter().filter_map(|tap| order.get(&tap.weight)).max().copied();
        jobs.sort_by_key(last);
        jobs
    }

    /// Why a relation is left alone.
    fn obstacle(&self, relation: &Relation) -> Option<String> {
        if matches!(relation.producer, Producer::Rows { .. })
            && !self.request.parameters.through_matrices
        {
            return Some("scales are taken out of norms only".to_owned());
        }
        let names = relation
            .products
            .iter()
            .map(String::as_str)
            .chain([relation.producer.weight()])
            .chain(relation.biases.iter().map(|bias| bias.weight.as_str()));
        if let Some(missing) = names.into_iter().find(|name| self.source.find(name).is_none()) {
            return Some(format!("'{missing}' is not in the file"));
        }
        let rounded = |name: &String| {
            self.formats.find(name).is_some_and(|tensor| tensor.entry.format.block_weights() > 1)
        };
        (!relation.products.iter().any(rounded))
            .then(|| "it is stored in floating point".to_owned())
    }

    /// The scales and limits of one relation.
    fn relation(
        &self,
        job: &Job,
        sums: &Statistics,
        changes: &mut Changes,
        report: &mut Report,
    ) -> Result<(), AwqError> {
        let relation = &job.relation;
        let began = Instant::now();
        let inputs = Inputs::new(&job.taps, sums);
        let products: Vec<Product> = relation
            .products
            .iter()
            .filter_map(|name| self.product(name).transpose())
            .collect::<Result<_, _>>()?;
        let mut group = Group {
            producer: relation.producer.weight().to_owned(),
            products: relation.products.clone(),
            exponents: Vec::new(),
            before: 0.0,
            scaled: 0.0,
        };
        let mut scales = Vec::new();
        for set in 0..relation.experts {
            let only = (relation.experts > 1).then_some(set);
            let matrices: Vec<Matrix> =
                products.iter().flat_map(|product| self.matrices(product, &inputs, only)).collect();
            let sizes = inputs.sizes(only);
            let search =
                Search { relation, matrices: &matrices, seconds: &inputs.seconds, sizes: &sizes };
            let found = self.pool.install(|| search.run(self.request.parameters.scales))?;
            scales.extend(found.values);
            group.exponents.push(found.exponent);
            group.before += found.before;
            group.scaled += found.after;
        }
        change::add_scales(changes, relation, &scales);
        report.times.scales += began.elapsed();
        report.groups.push(group);
        let began = Instant::now();
        if self.request.parameters.limits.steps > 0 {
            for product in &products {
                let Some(change) = changes.get_mut(&product.name) else { continue };
                report.clipped.push(self.limits(product, relation, &inputs, &scales, change)?);
            }
        }
        report.times.limits += began.elapsed();
        Ok(())
    }

    /// A product whose weight will be rounded.
    fn product(&self, name: &str) -> Result<Option<Product>, AwqError> {
        let (Some(tensor), Some(rounded)) = (self.source.find(name), self.formats.find(name))
        else {
            return Ok(None);
        };
        if rounded.entry.format.block_weights() == 1 {
            return Ok(None);
        }
        let (columns, rows) = change::shape(tensor);
        Ok(Some(Product {
            name: name.to_owned(),
            format: rounded.entry.format,
            values: change::values(self.source, tensor)?,
            columns,
            rows,
            matrices: matrices(tensor),
        }))
    }

    /// A product's matrices for the search, or one of them; each counts as often as it is used, and all together as
    /// much as any other product.
    fn matrices(&self, product: &Product, inputs: &Inputs, only: Option<usize>) -> Vec<Matrix> {
        let most = self.request.parameters.rows.max(1);
        let wanted = |index: &usize| only.is_none_or(|only| only == *index);
        let mut matrices: Vec<Matrix> = (0..product.matrices)
            .filter(wanted)
            .map(|index| {
                let moment = inputs.moment(product, index);
                Matrix {
                    format: product.format,
                    columns: product.columns,
                    values: product.sample(index, most),
                    importance: self.importance_of(product, index),
                    moment,
                    weight: inputs.shares[moment],
                }
            })
            .collect();
        let power: f64 = matrices
            .iter()
            .map(|matrix| {
                let second = inputs.seconds[matrix.moment].as_ref();
                matrix.weight * self.pool.install(|| matrix.power(second))
            })
            .sum();
        for matrix in &mut matrices {
            matrix.weight /= power.max(f64::MIN_POSITIVE);
        }
        matrices
    }

    /// The importance of the columns of one of a product's matrices, in the original.
    fn importance_of(&self, product: &Product, index: usize) -> Option<Vec<f32>> {
        let all = self.request.importance?;
        let entry = all.iter().find(|entry| entry.weight == product.name)?;
        entry.values.chunks_exact(product.columns).nth(index).map(<[f32]>::to_vec)
    }

    /// The limits of one product, for the scales that it was given.
    fn limits(
        &self,
        product: &Product,
        relation: &Relation,
        inputs: &Inputs,
        scales: &[f32],
        change: &mut Change,
    ) -> Result<Clipped, AwqError> {
        let mut clipped = Clipped { weight: product.name.clone(), before: 0.0, after: 0.0 };
        let mut values = product.values.clone();
        change.apply(&mut values, product.columns, product.rows);
        let mut limits: Option<clip::Limits> = None;
        for (index, values) in values.chunks_exact(product.rows * product.columns).enumerate() {
            let set = if relation.experts > 1 { index } else { 0 };
            let columns = relation.spread(&scales[set * relation.channels..][..relation.channels]);
            let moment = inputs.moment(product, index);
            let second = &inputs.seconds[moment];
            let second = Mat::from_fn(product.columns, product.columns, |i, j| {
                second[(i, j)] / (columns[i] * columns[j])
            });
            let importance = self.importance_of(product, index).map(|importance| {
                importance.iter().zip(&columns).map(|(value, by)| value / (by * by)).collect()
            });
            let importance: Option<Vec<f32>> = importance;
            let problem = Problem {
                format: product.format,
                values,
                importance: importance.as_deref(),
                second: second.as_ref(),
            };
            let grid = self.request.parameters.limits;
            let found = self.pool.install(|| clip::choose(&problem, grid))?;
            clipped.before += inputs.shares[moment] * found.before;
            clipped.after += inputs.shares[moment] * found.after;
            match &mut limits {
                Some(limits) => limits.append(found.limits),
                None => limits = Some(found.limits),
            }
        }
        change.limits = limits;
        Ok(clipped)
    }

    /// The importance matrix of the scaled model: inputs are divided by the scales.
    fn importance(&self, jobs: &[Job], changes: &Changes) -> Option<Vec<Importance>> {
        let mut all = self.request.importance?.to_vec();
        for entry in &mut all {
            let job = jobs.iter().find(|job| job.relation.products.contains(&entry.weight));
            if let (Some(job), Some(change)) = (job, changes.get(&entry.weight)) {
                change.divide_squares(&mut entry.values, job.relation.columns);
            }
        }
        Some(all)
    }
}
