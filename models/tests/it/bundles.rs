//! Bundles: what is built in, what a folder adds, what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use models::{Catalogue, LoadError, NamedInputs, Settings, assess_named, compute_named};
use safetensors::tensor::{Dtype, TensorView};

use crate::patient::{CATALOGUE, now};

#[test]
fn the_built_in_models() {
    let ids: Vec<&str> = CATALOGUE.models().map(|m| m.identity.id.as_str()).collect();
    assert_eq!(ids, ["ckd-epi-2021", "fib-4", "kfre-4", "meld-3", "news2", "prevent-base"]);
    assert_eq!(CATALOGUE.active().len(), 6);
    for model in CATALOGUE.models() {
        for word in ["## Source", "## For whom", "## Limits", "## Licence", "## Race"] {
            assert!(model.card.contains(word), "{}: {word}", model.identity.id);
        }
    }
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn folder(name: &str) -> Folder {
    let path = std::env::temp_dir().join(format!("augury-models-{}-{name}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    Folder(path)
}

fn bundled(id: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles").join(id).join("1.0.0")
}

fn copy(id: &str, to: &Path, change: impl Fn(&str, String) -> String) {
    fs::create_dir_all(to).unwrap();
    for file in ["model.json", "card.md", "vectors.json"] {
        fs::write(to.join(file), change(file, fs::read_to_string(bundled(id).join(file)).unwrap())).unwrap();
    }
}

#[test]
fn a_new_version_is_there_but_not_active_until_told() {
    let root = folder("version");
    copy("fib-4", &root.0.join("fib-4/1.1.0"), |_, text| text.replace("\"1.0.0\"", "\"1.1.0\""));
    let mut catalogue = CATALOGUE.clone();
    assert_eq!(catalogue.add_tree(&root.0).unwrap(), 1);
    assert_eq!(catalogue.get("fib-4").unwrap().identity.version, "1.0.0");
    assert_eq!(catalogue.newest("fib-4").unwrap().identity.version, "1.1.0");
    catalogue.activate("fib-4", "1.1.0").unwrap();
    assert_eq!(catalogue.get("fib-4").unwrap().identity.version, "1.1.0");
    assert_ne!(
        catalogue.version("fib-4", "1.0.0").unwrap().identity.sha256,
        catalogue.version("fib-4", "1.1.0").unwrap().identity.sha256
    );
    catalogue.deactivate("fib-4").unwrap();
    assert!(catalogue.get("fib-4").is_none());
    assert!(catalogue.activate("fib-4", "9.9.9").is_err());
    assert!(catalogue.add_tree(&root.0).is_ok(), "the same again");
    assert_eq!(catalogue.models().len(), CATALOGUE.models().len() + 1);
    fs::write(root.0.join("fib-4/1.1.0/card.md"), "changed").unwrap();
    assert!(catalogue.add_tree(&root.0).is_err(), "a version never changes");
}

#[test]
fn what_does_not_hold_together_is_refused() {
    type Change = fn(&str, String) -> String;
    let cases: [(&str, Change, &str); 11] = [
        (
            "weights",
            |f, t| if f == "model.json" { t.replace("\"ln_alt\": -0.5", "\"ln_alt\": -0.6") } else { t },
            "vectors",
        ),
        (
            "feature",
            |f, t| if f == "model.json" { t.replace("ln(alt)", "ln(atl)") } else { t },
            "unknown name `atl`",
        ),
        (
            "duplicate",
            |f, t| if f == "model.json" { t.replacen('{', "{\"id\": \"x\",", 1) } else { t },
            "same key",
        ),
        (
            "stray",
            |f, t| if f == "model.json" { t.replacen('{', "{\"idd\": \"x\",", 1) } else { t },
            "unknown field",
        ),
        (
            "unit",
            |f, t| {
                if f == "model.json" {
                    t.replace("\"10*9/L\", \"observation\"", "\"K9\", \"observation\"")
                        .replace("\"unit\": \"10*9/L\"", "\"unit\": \"K9\"")
                } else {
                    t
                }
            },
            "K9",
        ),
        (
            "link",
            |f, t| if f == "model.json" { t.replace("\"link\": \"exp\"", "\"link\": \"cox\"") } else { t },
            "Cox",
        ),
        (
            "kind",
            |f, t| {
                if f == "model.json" {
                    t.replace("\"kind\": \"score\"", "\"kind\": \"probability\"")
                } else {
                    t
                }
            },
            "probability",
        ),
        (
            "band",
            |f, t| if f == "model.json" { t.replace("value < 1.45", "valeu < 1.45") } else { t },
            "valeu",
        ),
        ("no-vectors", |f, t| if f == "vectors.json" { "{\"vectors\": []}".into() } else { t }, "none"),
        ("version", |f, t| if f == "model.json" { t.replace("\"1.0.0\"", "\"one\"") } else { t }, "MAJOR"),
        (
            "lookback",
            |f, t| if f == "model.json" { t.replace("\"P1Y\"", "\"1 year\"") } else { t },
            "lookback",
        ),
    ];
    for (name, change, said) in cases {
        let root = folder(name);
        copy("fib-4", &root.0, change);
        let mut catalogue = Catalogue::default();
        let error = catalogue.add_folder(&root.0).unwrap_err().to_string();
        assert!(error.contains(said), "{name}: {error}");
        assert_eq!(catalogue.models().len(), 0);
    }
    let mut catalogue = Catalogue::default();
    assert!(matches!(catalogue.add_folder(Path::new("/nonexistent")), Err(LoadError::File { .. })));
    // A model that reads another needs it there.
    assert!(catalogue.add_folder(&bundled("kfre-4")).is_err());
}

const NETWORK: &str = r#"{
  "id": "tiny", "version": "1.0.0", "title": "A tiny network", "citation": "none", "doi": "none",
  "purpose": "Shows that a network is data.", "learned": true, "off_by_default": true,
  "population": {"description": "anybody"},
  "inputs": [{"name": "x", "title": "x", "kind": "quantity", "unit": "1"}],
  "features": [{"name": "x", "formula": "x"}, {"name": "square", "formula": "x ^ 2"}],
  "network": {"mlp": {"layers": [
    {"weight": "a.weight", "bias": "a.bias", "activation": "relu"},
    {"weight": "b.weight", "bias": "b.bias", "activation": "identity"}], "outputs": ["y"]}},
  "outputs": [{"key": "y", "title": "y", "kind": "probability", "link": "logistic", "horizon_years": 1, "coding": []}],
  "reference": {"description": "none"}
}"#;

fn weights(dtype: Dtype, first: [f64; 4]) -> Vec<u8> {
    let bytes = |values: &[f64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let parts = [
        ("a.weight", vec![2, 2], bytes(&first)),
        ("a.bias", vec![2], bytes(&[0.5, -0.5])),
        ("b.weight", vec![1, 2], bytes(&[1.0, -2.0])),
        ("b.bias", vec![1], bytes(&[0.1])),
    ];
    let views: Vec<_> = parts
        .iter()
        .map(|(name, shape, data)| {
            let shape = if dtype == Dtype::F32 {
                shape.iter().map(|n| n * 2).take(1).chain(shape.iter().skip(1).copied()).collect()
            } else {
                shape.clone()
            };
            (*name, TensorView::new(dtype, shape, data).unwrap())
        })
        .collect();
    safetensors::serialize(views, None).unwrap()
}

fn network(name: &str, weights: &[u8], expected: f64) -> (Folder, Result<Catalogue, LoadError>) {
    let root = folder(name);
    fs::write(root.0.join("model.json"), NETWORK).unwrap();
    fs::write(root.0.join("card.md"), "# tiny").unwrap();
    fs::write(root.0.join("weights.safetensors"), weights).unwrap();
    let vectors = format!(r#"{{"vectors": [{{"inputs": {{"x": 2}}, "expected": {{"y": {expected}}}}}]}}"#);
    fs::write(root.0.join("vectors.json"), vectors).unwrap();
    let mut catalogue = CATALOGUE.clone();
    let loaded = catalogue.add_folder(&root.0).map(|_| catalogue);
    (root, loaded)
}

#[test]
fn a_network_is_data_too() {
    // x = 2: features 2 and 4; hidden relu(2 - 4 + 0.5) = 0, relu(0.5*2 + 0.25*4 - 0.5) = 1.5; y = 0.1 - 3
    let first = [1.0, -1.0, 0.5, 0.25];
    let expected = 1.0 / (1.0 + 2.9f64.exp());
    let (_root, catalogue) = network("network", &weights(Dtype::F64, first), expected);
    let catalogue = catalogue.unwrap();
    assert!(catalogue.get("tiny").is_none(), "off by default");
    let tiny = catalogue.newest("tiny").unwrap();
    let many: Vec<NamedInputs> = (0..700)
        .map(|n| {
            let text = format!(r#"{{"x": {}}}"#, f64::from(n) / 100.0);
            NamedInputs::from_json(
                &fhir::json::parse(text.as_bytes(), &fhir::json::Limits::default()).unwrap(),
            )
            .unwrap()
        })
        .collect();
    let together = compute_named(&catalogue, &many, tiny);
    for (input, found) in many.iter().zip(together) {
        let alone = compute_named(&catalogue, std::slice::from_ref(input), tiny).pop().unwrap().unwrap();
        assert_eq!(alone["y"].to_bits(), found.unwrap()["y"].to_bits());
    }
    let answer = assess_named(&catalogue, &many, tiny, now(), &Settings::default()).swap_remove(0);
    assert!(answer.scored().unwrap().outputs[0].contributions.is_empty());
}

#[test]
fn weights_of_another_kind_or_not_finite_are_refused() {
    let first = [1.0, -1.0, 0.5, 0.25];
    for (name, bytes, said) in [
        ("single", weights(Dtype::F32, first), "not f64"),
        ("nan", weights(Dtype::F64, [f64::NAN, 0.0, 0.0, 0.0]), "finite"),
        ("garbage", b"garbage!".to_vec(), "tiny"),
    ] {
        let (_root, loaded) = network(name, &bytes, 0.5);
        let error = loaded.unwrap_err().to_string();
        assert!(error.contains(said), "{name}: {error}");
    }
}
