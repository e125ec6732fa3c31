//! Features → linear predictors → values, as a candle graph in f64 on the CPU.
//!
//! A linear layer is written as a broadcast product that is then summed over the features,
//! not as a matrix product: the products are the contributions, and each row is summed in the
//! same order whatever rows stand beside it. So a patient's number has the same bits alone and
//! in a batch, which a blocked matrix product does not promise. None of the operations used
//! here enters candle's thread pool: parallelism goes over batches, not inside one.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};

use crate::manifest::{Activation, Link, NetworkSpec, OutputSpec, Stratum};

/// Elements of one intermediate tensor; more falls out of the cache and costs more a row.
const CHUNK_ELEMENTS: usize = 1 << 13;
const CHUNK_ROWS: usize = 512;

/// The compiled network of a model.
#[derive(Debug)]
pub(crate) struct Graph {
    features: usize,
    links: Vec<Link>,
    network: Network,
}

#[derive(Debug)]
enum Network {
    Linear(Linear),
    Mlp(Vec<Layer>),
}

/// All of shape strata × outputs, weights × features besides.
#[derive(Debug)]
struct Linear {
    strata: usize,
    weights: Tensor,
    intercepts: Tensor,
    /// ln(−ln s0): the log of the baseline cumulative hazard.
    hazards: Tensor,
    recalibration: [Tensor; 2],
    /// Row-major weights again, for the reference patient.
    flat: Vec<f64>,
    constants: Vec<f64>,
}

#[derive(Debug)]
struct Layer {
    weights: Tensor,
    bias: Tensor,
    activation: Activation,
}

/// What came out, row-major.
#[derive(Debug, Default)]
pub(crate) struct Scores {
    /// Rows × outputs.
    pub(crate) predictors: Vec<f64>,
    /// Rows × outputs.
    pub(crate) values: Vec<f64>,
    /// Rows × outputs × features; empty for a network.
    pub(crate) terms: Vec<f64>,
}

impl Graph {
    pub(crate) fn linear(
        strata: &[Stratum],
        features: &[Arc<str>],
        outputs: &[Arc<OutputSpec>],
    ) -> Result<Self, String> {
        let (mut weights, mut intercepts, mut hazards) = (Vec::new(), Vec::new(), Vec::new());
        let (mut shifts, mut slopes) = (Vec::new(), Vec::new());
        for stratum in strata {
            for key in stratum.weights.keys() {
                if !outputs.iter().any(|o| o.key == *key) {
                    return Err(format!("stratum {}: no output {key}", stratum.name));
                }
            }
            for output in outputs {
                let of = format!("stratum {}, output {}", stratum.name, output.key);
                let entry = stratum.weights.get(&output.key).ok_or_else(|| format!("{of}: no weights"))?;
                if let Some(name) = entry.coefficients.keys().find(|n| !features.contains(n)) {
                    return Err(format!("{of}: no feature {name}"));
                }
                weights.extend(features.iter().map(|f| entry.coefficients.get(f).copied().unwrap_or(0.0)));
                intercepts.push(entry.intercept);
                hazards.push(match (output.link, entry.s0) {
                    (Link::Cox, Some(s0)) if s0 > 0.0 && s0 < 1.0 => (-s0.ln()).ln(),
                    (Link::Cox, _) => return Err(format!("{of}: a Cox link needs s0 between 0 and 1")),
                    (_, None) => 0.0,
                    (_, Some(_)) => return Err(format!("{of}: s0 without a Cox link")),
                });
                let [shift, slope] = entry.recalibration.unwrap_or([0.0, 1.0]);
                shifts.push(shift);
                slopes.push(slope);
            }
        }
        if let Some(bad) =
            weights.iter().chain(&intercepts).chain(&shifts).chain(&slopes).find(|w| !w.is_finite())
        {
            return Err(format!("a weight of {bad}"));
        }
        let (s, o, k) = (strata.len(), outputs.len(), features.len());
        if s == 0 || o == 0 || k == 0 {
            return Err("no strata, outputs or features".into());
        }
        let tensor = |data: &[f64]| Tensor::from_slice(data, (s, o), &Device::Cpu).map_err(said);
        let linear = Linear {
            strata: s,
            weights: Tensor::from_slice(&weights, (s, o, k), &Device::Cpu).map_err(said)?,
            intercepts: tensor(&intercepts)?,
            hazards: tensor(&hazards)?,
            recalibration: [tensor(&shifts)?, tensor(&slopes)?],
            flat: weights,
            constants: intercepts,
        };
        Ok(Self { features: k, links: links(outputs), network: Network::Linear(linear) })
    }

    /// `weights` are the bytes of a safetensors file; shapes, types, names and finiteness are checked.
    pub(crate) fn new(
        spec: &NetworkSpec,
        features: &[Arc<str>],
        outputs: &[Arc<OutputSpec>],
        weights: Option<&[u8]>,
    ) -> Result<Self, String> {
        let mlp = match spec {
            NetworkSpec::Linear(strata) if weights.is_none() => {
                return Self::linear(strata, features, outputs);
            }
            NetworkSpec::Linear(_) => return Err("a linear model has its weights in the manifest".into()),
            NetworkSpec::Mlp(mlp) => mlp,
        };
        let tensors = tensors(weights.ok_or("no weights.safetensors")?)?;
        if !outputs.iter().map(|o| &o.key).eq(&mlp.outputs) {
            return Err("the network's outputs are not those of the manifest".into());
        }
        if outputs.iter().any(|o| o.link == Link::Cox) {
            return Err("a Cox link needs a linear model".into());
        }
        let mut layers = Vec::new();
        let mut width = features.len();
        let mut used = 0;
        for layer in &mlp.layers {
            let find = |name: &String| tensors.get(name).ok_or_else(|| format!("no tensor {name}"));
            let (weights, bias) = (find(&layer.weight)?, find(&layer.bias)?);
            let (out, inside) = weights.dims2().map_err(said)?;
            if inside != width || bias.dims1().map_err(said)? != out || out == 0 {
                return Err(format!("tensor {} does not fit its neighbours", layer.weight));
            }
            width = out;
            used += 2;
            layers.push(Layer {
                weights: weights.unsqueeze(0).map_err(said)?,
                bias: bias.unsqueeze(0).map_err(said)?,
                activation: layer.activation,
            });
        }
        if used != tensors.len() {
            return Err("tensors that no layer uses".into());
        }
        if layers.is_empty() || width != outputs.len() {
            return Err("the last layer is not as wide as the outputs are many".into());
        }
        Ok(Self { features: features.len(), links: links(outputs), network: Network::Mlp(layers) })
    }

    /// How many rows go through at a time.
    pub(crate) fn chunk(&self) -> usize {
        let widest = match &self.network {
            Network::Linear(_) => self.links.len() * self.features,
            Network::Mlp(layers) => layers.iter().map(|l| l.weights.elem_count()).max().unwrap_or(1),
        };
        (CHUNK_ELEMENTS / widest.max(1)).clamp(1, CHUNK_ROWS)
    }

    /// Weight × reference value of each feature, and the reference patient's linear predictor.
    /// None for a network.
    pub(crate) fn baseline(
        &self,
        stratum: usize,
        output: usize,
        reference: &[f64],
    ) -> Option<(impl Iterator<Item = f64>, f64)> {
        let Network::Linear(linear) = &self.network else { return None };
        let at = stratum * self.links.len() + output;
        let weights = linear.flat.get(at * self.features..(at + 1) * self.features)?;
        let terms = weights.iter().zip(reference).map(|(w, r)| w * r);
        let sum = linear.constants.get(at)? + terms.clone().sum::<f64>();
        Some((terms, sum))
    }

    /// Has this feature any weight in this output?
    pub(crate) fn weighs(&self, stratum: usize, output: usize, feature: usize) -> bool {
        let Network::Linear(linear) = &self.network else { return false };
        let at = (stratum * self.links.len() + output) * self.features + feature;
        linear.flat.get(at).is_some_and(|w| *w != 0.0)
    }

    /// `rows` are features row-major, at most [`Graph::chunk`] of them; one stratum each.
    ///
    /// # Errors
    /// Non-finite features, or a failure of the tensor library.
    pub(crate) fn run(&self, rows: &[f64], strata: &[u32]) -> Result<Scores, String> {
        // A rectifier turns NaN into 0: nothing that is not a number may come near one.
        if let Some(bad) = rows.iter().find(|x| !x.is_finite()) {
            return Err(format!("a feature is {bad}"));
        }
        self.forward(rows, strata).map_err(said)
    }

    fn forward(&self, rows: &[f64], strata: &[u32]) -> candle_core::Result<Scores> {
        let count = strata.len();
        let x = Tensor::from_slice(rows, (count, 1, self.features), &Device::Cpu)?;
        match &self.network {
            Network::Linear(linear) => {
                let rows = if linear.strata == 1 {
                    None
                } else {
                    Some(Tensor::from_slice(strata, count, &Device::Cpu)?)
                };
                let pick = |table: &Tensor| match &rows {
                    None => Ok(table.clone()),
                    Some(rows) => table.index_select(rows, 0),
                };
                let terms = pick(&linear.weights)?.broadcast_mul(&x)?;
                let predictors = terms.sum(D::Minus1)?.broadcast_add(&pick(&linear.intercepts)?)?;
                let mut values = flat(&predictors)?;
                for link in [Link::Exp, Link::Logistic, Link::Cox] {
                    if !self.links.contains(&link) {
                        continue;
                    }
                    let linked = match link {
                        Link::Cox => {
                            let hazard = predictors.broadcast_add(&pick(&linear.hazards)?)?;
                            let [shift, slope] = &linear.recalibration;
                            let hazard = hazard.broadcast_mul(&pick(slope)?)?.broadcast_add(&pick(shift)?)?;
                            hazard.exp()?.neg()?.exp()?.affine(-1.0, 1.0)?
                        }
                        other => linked(other, &predictors)?,
                    };
                    self.place(link, &flat(&linked)?, &mut values);
                }
                Ok(Scores { predictors: flat(&predictors)?, values, terms: flat(&terms)? })
            }
            Network::Mlp(layers) => {
                let mut now = x;
                let mut predictors = Tensor::zeros((count, 1), DType::F64, &Device::Cpu)?;
                for layer in layers {
                    let sums =
                        layer.weights.broadcast_mul(&now)?.sum(D::Minus1)?.broadcast_add(&layer.bias)?;
                    if flat(&sums)?.iter().any(|x| !x.is_finite()) {
                        candle_core::bail!("a layer gave no finite number");
                    }
                    predictors = match layer.activation {
                        Activation::Identity => sums,
                        Activation::Relu => sums.relu()?,
                        Activation::Tanh => sums.tanh()?,
                        Activation::Sigmoid => linked(Link::Logistic, &sums)?,
                    };
                    now = predictors.unsqueeze(1)?;
                }
                let mut values = flat(&predictors)?;
                for link in [Link::Exp, Link::Logistic] {
                    if self.links.contains(&link) {
                        self.place(link, &flat(&linked(link, &predictors)?)?, &mut values);
                    }
                }
                Ok(Scores { predictors: flat(&predictors)?, values, terms: Vec::new() })
            }
        }
    }

    fn place(&self, link: Link, linked: &[f64], values: &mut [f64]) {
        let links = self.links.iter().cycle();
        for ((value, linked), of) in values.iter_mut().zip(linked).zip(links) {
            if *of == link {
                *value = *linked;
            }
        }
    }
}

fn linked(link: Link, predictors: &Tensor) -> candle_core::Result<Tensor> {
    match link {
        Link::Identity | Link::Cox => Ok(predictors.clone()),
        Link::Exp => predictors.exp(),
        Link::Logistic => predictors.neg()?.exp()?.affine(1.0, 1.0)?.recip(),
    }
}

fn links(outputs: &[Arc<OutputSpec>]) -> Vec<Link> {
    outputs.iter().map(|o| o.link).collect()
}

fn flat(tensor: &Tensor) -> candle_core::Result<Vec<f64>> {
    tensor.flatten_all()?.to_vec1()
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn said(error: candle_core::Error) -> String {
    error.to_string()
}

fn tensors(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let file = safetensors::SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let mut all = BTreeMap::new();
    for (name, view) in file.tensors() {
        // A silent cast would change the last digits of every result.
        if view.dtype() != safetensors::Dtype::F64 {
            return Err(format!("tensor {name} is not f64"));
        }
        let values: Vec<f64> =
            view.data().as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        if values.iter().any(|x| !x.is_finite()) {
            return Err(format!("tensor {name} holds a value that is no finite number"));
        }
        all.insert(name, Tensor::from_vec(values, view.shape(), &Device::Cpu).map_err(said)?);
    }
    Ok(all)
}
