//! What is tuned: one variant of a model, and what its file says of it.

use super::{Arguments, REPEAT_WITHIN, SEARCH, WORK};
use crate::causes::Problem;
use crate::cli::needs;
use crate::cli::plan::outline::Outlines;
use crate::cli::session::{Session, resolve_options};
use crate::engine::onnxruntime;
use crate::error::Error;
use crate::experiment::resolved::{Experiment, ModelPlan};
use crate::experiment::tuning::{Goal, Space, Use};
use crate::experiment::workloads::Workloads;
use crate::model::architecture::ArchitectureClass;
use crate::model::engine_name::EngineName;
use crate::model::gguf::Header;
use crate::model::resolve::ResolveOptions;
use crate::model::source::Source;
use crate::onnx;
use crate::onnx::names::Names;
use crate::onnx::storage::Storage;
use crate::orchestrator::plan::{Plan, Variant};
use std::path::Path;

/// What a file says of a model.
pub(super) struct Network {
    /// Tokens that it was trained for; `None`: it does not say.
    pub(super) context_length: Option<u32>,
    pub(super) layers: u32,
    pub(super) has_experts: bool,
    pub(super) parameters: u64,
    continues_texts: bool,
}

impl Network {
    fn of_header(header: &Header) -> Self {
        let count = |count: Option<u64>| count.and_then(|count| u32::try_from(count).ok());
        Self {
            context_length: count(header.context_length()),
            layers: count(header.layers()).unwrap_or(0),
            has_experts: header.experts().is_some(),
            parameters: header.parameters(),
            continues_texts: header.architecture_class() == ArchitectureClass::DecoderOnly,
        }
    }

    /// Layers and experts of a graph decide nothing: there is no GPU to put them on.
    fn of_graph(path: &Path) -> Result<Self, Problem> {
        let model = onnx::read(path)?;
        let names = Names::beside(path);
        let mut outputs = model.graph.iter().flat_map(|graph| &graph.output);
        let weights = Storage::of(&model).shares.into_iter().map(|share| share.weights);
        Ok(Self {
            context_length: onnxruntime::context_length(path),
            layers: 0,
            has_experts: false,
            parameters: weights.fold(0, u64::saturating_add),
            continues_texts: outputs.any(|output| names.output(&output.name) == "logits"),
        })
    }
}

/// What is tuned.
pub(super) struct Subject {
    pub(super) session: Session,
    pub(super) options: ResolveOptions,
    /// Names the model, and has the budget of the search.
    pub(super) search: Experiment,
    pub(super) variant: Variant,
    pub(super) network: Network,
    /// What memory is planned by.
    outlines: Outlines,
    pub(super) is_shape: bool,
}

impl Subject {
    pub(super) fn find(arguments: &Arguments) -> Result<Self, Error> {
        let quiet = arguments.quiet;
        let source = Source::parse(&arguments.model, Path::new(""))
            .map_err(|error| Problem::new(format!("MODEL {error}")))?;
        let model = ModelPlan {
            quantizations: arguments.quant.into_iter().collect(),
            allow_requantize: arguments.allow_requantize,
            ..ModelPlan::new(source.default_name(), source)
        };
        let is_shape = matches!(model.source, Source::Shape(_));
        if is_shape && arguments.allow_loss.is_some() {
            return Err(Problem::new(
                "--allow-loss needs a model with weights of its own: those of a shape are generated, so that what is lost cannot be measured",
            )
            .into());
        }
        let session = Session::open(quiet)?;
        let mut options = resolve_options(quiet);
        options.consent = needs::consent(quiet, arguments.yes);
        let search = Experiment {
            name: format!("tune {} for {}", model.name, arguments.goal),
            models: vec![model],
            budget: Some(arguments.budget.mul_f64(SEARCH)),
            ..Experiment::default()
        };
        let mut variants = session.plan(&search, &options)?.variants;
        let model = &arguments.model;
        let variant = match (variants.len(), variants.pop()) {
            (1, Some(variant)) => variant,
            (count, last) => {
                let labels: Vec<&str> =
                    variants.iter().chain(&last).map(|it| it.label.as_str()).collect();
                let labels = labels.join(", ");
                return Err(Problem::new(format!(
                    "{model} has {count} variants ({labels}); name one with --quant"
                ))
                .into());
            }
        };
        let is_onnx = variant.engine.name == EngineName::OnnxRuntime;
        let several = arguments.parallel.is_some_and(|count| count > 1);
        if is_onnx && (several || arguments.goal == Goal::Throughput) {
            return Err(Problem::new(format!(
                "{model} is ONNX, whose requests are computed one after the other: there is nothing to tune for several side \
                 by side; ask for --for latency, or leave --parallel out"
            ))
            .into());
        }
        let outlines = Outlines::of(std::slice::from_ref(&variant), &session.cache, &options)?;
        let path = outlines.paths.first().cloned();
        let path = path.unwrap_or_else(|| Err("it is not there".to_owned()));
        let path = path.map_err(Problem::new)?;
        let network = if is_onnx {
            Network::of_graph(&path)?
        } else {
            let header = Header::read(&path).map_err(|error| {
                Problem::because(format!("cannot read {}", path.display()), error)
            })?;
            Network::of_header(&header)
        };
        if !network.continues_texts {
            return Err(Problem::new(format!(
                "{model} is no model that continues texts; only of those are settings tuned"
            ))
            .into());
        }
        Ok(Self { session, options, search, variant, network, outlines, is_shape })
    }

    pub(super) fn plan(&self, experiment: &Experiment) -> Result<Plan, Problem> {
        Plan::new(experiment, vec![vec![self.variant.clone()]])
    }

    pub(super) fn path(&self) -> &Path {
        self.outlines.paths.first().and_then(|path| path.as_deref().ok()).unwrap_or(Path::new(""))
    }

    /// What the search measures: the defaults of a space at first.
    pub(super) fn experiment(&self, space: &Space, used: &Use) -> Experiment {
        let tests = used.tests();
        let tokens: u64 = tests.iter().map(|test| u64::from(test.tokens())).sum();
        let work = self.network.parameters.saturating_mul(tokens).max(1);
        Experiment {
            settings: vec![space.base.clone()],
            workloads: Workloads { speed: tests, ..Workloads::default() },
            repeat_within: Some(REPEAT_WITHIN),
            repetitions: u32::try_from((WORK / work).clamp(1, 20)).unwrap_or(1),
            ..self.search.clone()
        }
    }
}
