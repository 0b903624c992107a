//! Figures of the current visit, for the display only: the table has the statistics.

use crate::experiment::tasks::TaskName;
use crate::experiment::workloads::SpeedTest;
use crate::metrics::TaskMetric;
use crate::statistics::sample::Sample;
use crate::units::{format_seconds, significant};
use crate::worker::protocol::Event;
use crate::workload::measured::EmbeddingQuality;

/// The latest figures that a worker reported.
#[derive(Debug, Default)]
pub(super) struct Figures {
    load_seconds: Option<f64>,
    speed: Vec<(SpeedTest, f64)>,
    ttft_seconds: Vec<f64>,
    perplexity: Option<f64>,
    kld: Option<f64>,
    tasks: Vec<(TaskName, TaskMetric, f64)>,
    embeddings: Option<EmbeddingQuality>,
}

impl Figures {
    pub(super) fn on_event(&mut self, event: &Event) {
        match event {
            Event::Loaded { sample, .. } => self.load_seconds = Some(sample.seconds),
            Event::Speed { test, sample } => {
                let rate = sample.rate(*test);
                match self.speed.iter_mut().find(|(other, _)| other == test) {
                    Some((_, latest)) => *latest = rate,
                    None => self.speed.push((*test, rate)),
                }
            }
            Event::Response(response) => self.ttft_seconds.extend(response.ttft_seconds()),
            Event::Quality(quality) => {
                self.perplexity = Some(quality.perplexity.mean);
                self.kld = quality.divergence.as_ref().map(|divergence| divergence.kld.mean);
            }
            Event::Task(task) => {
                self.tasks.extend(task.scores.first().map(|score| {
                    (task.task, score.metric, score.metric.value_of_all(&score.counts))
                }));
            }
            Event::EmbeddingQuality(quality) => self.embeddings = Some(quality.clone()),
            _ => {}
        }
    }

    pub(super) fn have_quality(&self) -> bool {
        self.perplexity.is_some() || self.embeddings.is_some()
    }

    pub(super) fn have_tasks(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// `pp512 2310 t/s, tg128 185 t/s, TTFT p50 12.1 ms`; the load time only while nothing else is
    /// known.
    pub(super) fn text(&self) -> String {
        let mut parts: Vec<String> = self
            .speed
            .iter()
            .map(|(test, rate)| format!("{test} {} {}", significant(*rate, 3), test.unit().short()))
            .collect();
        if let Some(sample) = Sample::new(self.ttft_seconds.iter().copied()) {
            parts.push(format!("TTFT p50 {}", format_seconds(sample.median())));
        }
        if let Some(perplexity) = self.perplexity {
            parts.push(format!("perplexity {}", significant(perplexity, 4)));
        }
        if let Some(kld) = self.kld {
            parts.push(format!("KLD {}", significant(kld, 3)));
        }
        parts.extend(self.tasks.iter().map(|(task, metric, value)| {
            format!("{task} {metric} {:.1} %", value * metric.percent_factor())
        }));
        if let Some(embeddings) = &self.embeddings {
            parts.push(match &embeddings.similarity {
                None => format!("{} pieces embedded", embeddings.pieces),
                Some(similarity) => format!("cosine {}", significant(similarity.cosine.mean, 5)),
            });
        }
        if parts.is_empty()
            && let Some(seconds) = self.load_seconds
        {
            parts.push(format!("loaded in {}", format_seconds(seconds)));
        }
        parts.join(", ")
    }
}
