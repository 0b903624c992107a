//! Tests of resolving: every kind of source, and what is taken, made or refused.

use super::{Making, Origin, ResolveOptions, Resolved, Variant, resolve, variants};
use crate::causes::Problem;
use crate::model::cache::Cache;
use crate::model::gguf::testing::Builder;
use crate::model::hub::HubOptions;
use crate::model::quantization::{Method, Quantization};
use crate::model::source::Source;
use crate::model::split::part_name;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A folder with a cache and room for models.
struct Place {
    folder: tempfile::TempDir,
    cache: Cache,
    options: ResolveOptions,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(&folder.path().join("cache")).unwrap();
        let hub = HubOptions {
            endpoint: crate::model::hub::Endpoint::parse("http://127.0.0.1:9"),
            token: None,
            cache: folder.path().join("hub"),
            offline: true,
            patience: Duration::from_secs(5),
            connections: 1,
            piece_bytes: 32 << 20,
            progress: crate::model::progress::ProgressSink::default(),
        };
        let options = ResolveOptions { hub, ..ResolveOptions::from_environment() };
        Self { folder, cache, options }
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn resolve(&self, source: &Source) -> Result<Resolved, Problem> {
        resolve(source, &self.cache, &self.options)
    }

    fn file(&self, name: &str, builder: &Builder) -> Result<Resolved, Problem> {
        let path = self.path(name);
        builder.write(&path);
        self.resolve(&Source::File(path))
    }

    fn directory(&self, name: &str) -> Result<Resolved, Problem> {
        self.resolve(&Source::Directory(self.folder.path().join(name)))
    }
}

fn list(names: &[&str]) -> Vec<Quantization> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn shown(variants: &[Variant]) -> Vec<String> {
    variants
        .iter()
        .map(|variant| {
            let kind = if matches!(variant.origin, Origin::Ready(_)) { "ready" } else { "make" };
            format!("{kind} {}", variant.label)
        })
        .collect()
}

/// No method is calibrated.
fn making(allow_requantize: bool, maker: &str) -> Making<'_> {
    Making { allow_requantize, maker, calibration: &|_| None }
}

#[test]
fn a_file_is_a_source_and_a_ready_variant() {
    let place = Place::new();
    let resolved = place.file("m-F16.gguf", &Builder::model(1)).unwrap();
    let source = resolved.source.as_ref().unwrap();
    assert_eq!(source.quantization.to_string(), "F16");
    assert_eq!(source.header.as_ref().unwrap().architecture(), "llama");
    assert_eq!(source.artifact.checksum.len(), 64);
    assert_eq!(resolved.ready.len(), 1);
    assert_eq!(resolved.ready[0].artifact, source.artifact);
    let wanted = list(&["F16", "Q8_0", "Q4_0"]);
    let made = variants(&resolved, &wanted, making(false, "llama.cpp")).unwrap();
    assert_eq!(shown(&made), ["ready F16", "make Q8_0", "make Q4_0"]);
    let Origin::Make { key, expected_bytes, .. } = &made[1].origin else { panic!("{made:?}") };
    assert_eq!(key.source_checksum, source.artifact.checksum);
    assert!(*expected_bytes >= 680 + 256, "{expected_bytes}");
    let all = variants(&resolved, &[], making(false, "llama.cpp")).unwrap();
    assert_eq!(shown(&all), ["ready F16"]);
}

#[test]
fn a_quantized_source_is_taken_as_it_is_but_not_quantized_again_unasked() {
    let place = Place::new();
    let resolved = place.file("m.gguf", &Builder::model(7)).unwrap();
    let taken = variants(&resolved, &list(&["INT8"]), making(false, "x")).unwrap();
    assert_eq!(shown(&taken), ["ready Q8_0"]);
    let error = variants(&resolved, &list(&["Q4_0"]), making(false, "x")).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("cannot make Q4_0 of ") && message.contains("(Q8_0)"), "{message}");
    let made = variants(&resolved, &list(&["Q4_0"]), making(true, "x")).unwrap();
    assert_eq!(shown(&made), ["make Q4_0"]);
}

#[test]
fn an_importance_matrix_that_was_used_is_noticed() {
    let place = Place::new();
    let with_matrix = Builder::model(7).string("quantize.imatrix.file", "x.dat");
    let resolved = place.file("m-Q8_0.gguf", &with_matrix).unwrap();
    assert_eq!(resolved.ready[0].quantization.method, Method::Imatrix);
    let taken = variants(&resolved, &list(&["Q8_0"]), making(false, "x")).unwrap();
    assert_eq!(taken.len(), 1, "the plain name is met by it");
}

#[test]
fn a_split_model_is_one_source_whose_every_part_counts() {
    let place = Place::new();
    let part = |number: u32| place.path(&part_name("m-Q8_0", number, 2));
    Builder::model(7).u32("split.count", 2).write(&part(1));
    Builder::new().tensor("output.weight", 8, &[64, 10]).write(&part(2));
    let first = place.resolve(&Source::File(part(1))).unwrap();
    assert_eq!(place.resolve(&Source::File(part(2))).unwrap(), first, "from any part");
    assert_eq!(first.ready[0].artifact.path, part(1));
    assert_eq!(first.ready[0].label, "Q8_0");
    Builder::new().tensor("output.weight", 0, &[170]).write(&part(2));
    let other = place.resolve(&Source::File(part(1))).unwrap();
    assert_ne!(other.ready[0].artifact.checksum, first.ready[0].artifact.checksum);
    std::fs::remove_file(part(2)).unwrap();
    let error = place.resolve(&Source::File(part(1))).unwrap_err().to_string();
    assert!(error.contains("m-Q8_0-00002-of-00002.gguf is not there"), "{error}");
}

#[test]
fn what_is_no_language_model_is_refused_with_what_it_is() {
    let place = Place::new();
    let tensor = |builder: Builder| builder.tensor("a", 0, &[1]);
    for (builder, expected) in [
        (tensor(Builder::new().string("general.type", "imatrix")), "it holds an importance matrix"),
        (
            tensor(Builder::new().string("general.architecture", "clip")),
            "an image or audio encoder",
        ),
        (
            tensor(Builder::new().string("general.type", "mmproj")),
            "an image or audio encoder (mmproj)",
        ),
        (tensor(Builder::new().string("general.type", "adapter")), "an adapter (LoRA)"),
        (
            tensor(Builder::new().string("general.architecture", "controlvector")),
            "a control vector",
        ),
        (tensor(Builder::new().string("general.type", "other")), "it holds 'other'"),
        (tensor(Builder::new()), "no model that names its architecture"),
        (Builder::new().string("general.architecture", "llama"), "a vocabulary without weights"),
    ] {
        let error = place.file("x.gguf", &builder).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let integers = Builder::new().string("general.architecture", "llama").tensor("a", 26, &[1]);
    let error = place.file("x.gguf", &integers).unwrap_err().to_string();
    assert!(error.ends_with("x.gguf is stored in a type that llama.cpp does not name"), "{error}");
}

#[test]
fn a_folder_yields_its_variants_from_most_to_fewest_bits() {
    let place = Place::new();
    Builder::model(15).write(&place.path("v/m-UD-Q4_K_XL.gguf"));
    Builder::model(15).write(&place.path("v/m-Q4_K_M.gguf"));
    Builder::model(1).write(&place.path("v/m-F16.gguf"));
    Builder::model(7).u32("split.count", 2).write(&place.path("v/m-Q8_0-00001-of-00002.gguf"));
    Builder::new().tensor("z", 0, &[1]).write(&place.path("v/m-Q8_0-00002-of-00002.gguf"));
    let encoder = Builder::new().string("general.architecture", "clip").tensor("a", 0, &[1]);
    encoder.write(&place.path("v/mmproj-F16.gguf"));
    std::fs::write(place.path("v/README.md"), "text").unwrap();
    let resolved = place.directory("v").unwrap();
    assert_eq!(resolved.source, None);
    let labels: Vec<&str> = resolved.ready.iter().map(|ready| ready.label.as_str()).collect();
    assert_eq!(labels, ["F16", "Q8_0", "Q4_K_M", "UD-Q4_K_XL"]);

    let wanted = list(&["UD-Q4_K_XL", "F16"]);
    let chosen = variants(&resolved, &wanted, making(false, "x")).unwrap();
    assert_eq!(shown(&chosen), ["ready UD-Q4_K_XL", "ready F16"]);
    let error = variants(&resolved, &list(&["Q2_K"]), making(true, "x")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Q2_K is not among the ready variants, which are F16, Q8_0, Q4_K_M, UD-Q4_K_XL"
    );
}

#[test]
fn a_projector_is_told_from_a_model() {
    let place = Place::new();
    let projector = Builder::new().string("general.architecture", "clip").tensor("a", 0, &[1]);
    projector.write(&place.path("mmproj.gguf"));
    Builder::model(1).write(&place.path("m-F16.gguf"));
    let found = |name: &str| {
        let source = Source::File(place.path(name));
        super::projector(&source, &place.cache, &place.options)
    };
    let artifact = found("mmproj.gguf").unwrap();
    assert_eq!(artifact.checksum.len(), 64);
    assert_eq!(artifact.file_bytes, std::fs::metadata(&artifact.path).unwrap().len());
    let error = found("m-F16.gguf").unwrap_err().to_string();
    assert!(
        error.ends_with("is no projector (mmproj): it holds a model of the architecture 'llama'")
    );
    assert!(found("none.gguf").unwrap_err().to_string().contains("none.gguf"));
}

#[test]
fn two_files_of_one_type_are_called_by_their_names() {
    let place = Place::new();
    Builder::model(7).write(&place.path("v/first-Q8_0.gguf"));
    Builder::model(7).write(&place.path("v/second-Q8_0.gguf"));
    let resolved = place.directory("v").unwrap();
    let labels: Vec<&str> = resolved.ready.iter().map(|ready| ready.label.as_str()).collect();
    assert_eq!(labels, ["first-Q8_0", "second-Q8_0"]);
}

#[test]
fn a_folder_of_nothing_or_of_different_models_is_refused() {
    let place = Place::new();
    std::fs::create_dir(place.path("v")).unwrap();
    let error = place.directory("v").unwrap_err().to_string();
    assert!(error.ends_with("v has no GGUF file of a model in it"), "{error}");
    Builder::model(7).write(&place.path("v/a.gguf"));
    let other = Builder::new().string("general.architecture", "qwen2").tensor("a", 8, &[32]);
    other.write(&place.path("v/b.gguf"));
    let error = place.directory("v").unwrap_err().to_string();
    assert!(
        error.contains("(llama of 2 layers and width 64, qwen2 of ? layers and width ?)"),
        "{error}"
    );
    std::fs::write(place.path("v/b.gguf"), b"GGUF").unwrap();
    let error = place.directory("v").unwrap_err().to_string();
    assert!(error.contains("b.gguf is cut off"), "{error}");
    let error = place.directory("no").unwrap_err().to_string();
    assert!(error.starts_with("cannot read the folder "), "{error}");
}

#[test]
fn a_file_of_the_hub_is_fetched_with_all_its_parts() {
    use crate::model::hub::tests::{Server, hub, options};
    let parts = [
        Builder::model(7).u32("split.count", 2).bytes(),
        Builder::new().tensor("output.weight", 8, &[64, 10]).bytes(),
    ];
    let server = Server::start(move |request| {
        let second = request.path.contains("00002-of");
        hub(parts[usize::from(second)].clone())(request)
    });
    let mut place = Place::new();
    place.options.hub = options(&server.address, &place.folder);
    let source = Source::Hub {
        repository: "owner/name".to_owned(),
        file: format!("Q8_0/{}", part_name("m-Q8_0", 1, 2)),
        revision: None,
    };
    let resolved = place.resolve(&source).unwrap();
    let named = &resolved.ready[0];
    let remote = named.remote.as_ref().unwrap();
    assert_eq!((remote.parts.len(), named.artifact.path.exists()), (2, false));
    super::fetch(remote, &place.options).unwrap();
    place.options.hub.offline = true;
    let there = place.resolve(&source).unwrap();
    assert_eq!(there.ready[0].artifact, named.artifact, "offline from then on");
    let header = there.source.unwrap().header.unwrap();
    assert_eq!((header.parts, header.tensors.len()), (2, 3));
}

#[test]
fn without_the_hub_a_repository_is_what_was_fetched_of_it() {
    let place = Place::new();
    let folder = format!("hub/models--owner--name/snapshots/{}", "c".repeat(40));
    Builder::model(7).write(&place.path(&format!("{folder}/m-q8_0.gguf")));
    Builder::model(1).write(&place.path(&format!("{folder}/F16/m.gguf")));
    Builder::model(15).write(&place.path(&format!("{folder}/m-UD-Q4_K_XL.gguf")));
    let encoder = Builder::new().string("general.architecture", "clip").tensor("a", 0, &[1]);
    encoder.write(&place.path(&format!("{folder}/m-vision-Q5_0.gguf")));
    std::fs::write(place.path(&format!("{folder}/m-Q6_K.gguf")), b"GGUF").unwrap();
    std::fs::write(place.path("hub/models--owner--name/refs/main"), "c".repeat(40)).unwrap();
    let resolved = |variant: Option<&str>| {
        place.resolve(&Source::Repository {
            repository: "owner/name".to_owned(),
            revision: None,
            variant: variant.map(str::to_owned),
        })
    };
    let labels = |variant| {
        let ready = resolved(variant).unwrap().ready;
        ready.into_iter().map(|it| it.label).collect::<Vec<_>>()
    };
    assert_eq!(labels(Some("Q8_0")), ["Q8_0"]);
    assert_eq!(labels(Some("ud-q4_k_xl")), ["UD-Q4_K_XL"]);
    let only = resolved(Some("f16")).unwrap();
    assert_eq!(only.source.unwrap().artifact.checksum.len(), 64);
    let error = |variant| resolved(variant).unwrap_err().to_string();
    assert!(error(Some("Q2_K")).ends_with("has no Q2_K; it has F16, Q8_0, Q6_K, Q5_0, UD-Q4_K_XL"));
    assert!(error(Some("Q5_0")).ends_with("has no GGUF file of a model in it"));
    assert!(error(None).contains("m-Q6_K.gguf is cut off"));
    std::fs::remove_file(place.path(&format!("{folder}/m-Q6_K.gguf"))).unwrap();
    assert_eq!(labels(None), ["F16", "Q8_0", "UD-Q4_K_XL"]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let place = Place::new();
    let error = place.resolve(&Source::File(Path::new("/no/m.gguf").to_owned())).unwrap_err();
    assert_eq!(error.to_string(), "cannot read /no/m.gguf");
}

#[test]
#[cfg(feature = "demo")]
fn the_demo_is_written_once_and_again_if_it_was_changed() {
    let place = Place::new();
    let resolved = place.resolve(&Source::Demo).unwrap();
    let path = resolved.source.as_ref().unwrap().artifact.path.clone();
    assert!(path.starts_with(place.cache.root()));
    assert_eq!(resolved.ready[0].label, "F16");
    let modified = || std::fs::metadata(&path).unwrap().modified().unwrap();
    let before = modified();
    assert_eq!(place.resolve(&Source::Demo).unwrap(), resolved);
    assert_eq!(modified(), before, "written once");
    std::fs::write(&path, b"GGUF").unwrap();
    assert_eq!(place.resolve(&Source::Demo).unwrap(), resolved);
}

#[test]
fn a_publisher_s_recipe_is_measured_and_not_made() {
    let place = Place::new();
    let resolved = place.file("m-F16.gguf", &Builder::model(1)).unwrap();
    let wanted = list(&["UD-Q4_K_XL"]);
    let error = variants(&resolved, &wanted, making(false, "x")).unwrap_err();
    assert!(error.to_string().starts_with("cannot make UD-Q4_K_XL: "), "{error}");
    assert!(error.to_string().ends_with("or make 'Q4_K_M'"), "{error}");
}
