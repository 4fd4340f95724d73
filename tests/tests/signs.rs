//! What `relc_ir::analysis` claims about values, against the values.

use std::cmp::Ordering;

use ndarray::ArrayD;
use relc_interp::{Element, InterpError, forward_all};
use relc_ir::analysis::{Sign, Signs};
use relc_ir::op::Activation;
use relc_ir::{Graph, ValueId};
use relc_tests::soup::{SHAPE, soup};

/// The numbers that every activation is tried on.
const NUMBERS: [f64; 13] = [-1e4, -90.0, -6.5, -3.0, -1.0, -0.4, -1e-9, 0.0, 1e-9, 0.4, 1.0, 3.5, 90.0];

/// Whether each value is of the sign that is claimed; how many claims there are.
fn check<T: Element>(graph: &Graph, x: &ArrayD<T>) -> Result<usize, InterpError> {
    let signs = Signs::of(graph);
    let values = forward_all(graph, std::slice::from_ref(x))?;
    let mut claims = 0;
    for node in graph.forward_order().unwrap() {
        let value = ValueId { node, port: 0 };
        let Some(array) = values.value(value) else { continue };
        let sign = signs.sign(value);
        claims += usize::from(sign != Sign::ANY);
        // What is no number is neither.
        let fits = |v: &T| match v.partial_cmp(&T::zero()) {
            Some(Ordering::Less) => sign.negative,
            Some(Ordering::Greater) => sign.positive,
            _ => true,
        };
        let wrong = array.iter().find(|v| !fits(v));
        assert!(wrong.is_none(), "{}: got {wrong:?}, claimed {sign:?} in\n{graph}", graph.describe(node));
    }
    Ok(claims)
}

#[test]
fn signs_hold_for_the_values_of_random_graphs() {
    let (mut ran, mut claims) = (0, 0);
    for seed in 0..1500 {
        let graph = soup(seed, 1 + seed as usize % 9);
        let mut rng = fastrand::Rng::with_seed(seed);
        let shape = [&[2], &SHAPE[..]].concat();
        let x = ArrayD::from_shape_simple_fn(shape, || rng.f32() * 8.0 - 4.0);
        // Logarithms and quotients of anything are often no numbers.
        let wide = check(&graph, &x.mapv(f64::from));
        let narrow = check(&graph, &x);
        for found in [wide, narrow] {
            match found {
                Ok(found) => (ran, claims) = (ran + 1, claims + found),
                Err(InterpError::NonFinite { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(ran > 1000 && claims > 2000, "{ran} runs with {claims} claims show too little");
}

#[test]
fn signs_hold_for_every_activation_and_parameter() {
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..4000 {
        let activation = relc_tests::soup::activation(&mut rng);
        for sign in [Sign::ANY, Sign::NON_NEGATIVE, Sign::NON_POSITIVE, Sign::ZERO] {
            let claimed = sign.through(&activation);
            let fits = |sign: Sign, v: f64| match v.partial_cmp(&0.0) {
                Some(Ordering::Less) => sign.negative,
                Some(Ordering::Greater) => sign.positive,
                _ => true,
            };
            for x in NUMBERS.into_iter().filter(|x| fits(sign, *x)) {
                let (wide, narrow) =
                    (relc_interp::activation(&activation, x), relc_interp::activation(&activation, x as f32));
                for y in [wide, f64::from(narrow)] {
                    assert!(fits(claimed, y), "{activation:?} of {x} is {y}, claimed {claimed:?}");
                }
            }
        }
    }
}

#[test]
fn claims_are_as_strong_as_they_can_be() {
    let through = |activation| Sign::ANY.through(&activation);
    assert_eq!(through(Activation::Clip { min: -6.0, max: -1.0 }), Sign::NON_POSITIVE);
    assert_eq!(through(Activation::Clip { min: 0.0, max: 6.0 }), Sign::NON_NEGATIVE);
    assert_eq!(through(Activation::Selu { alpha: -1.5, gamma: -1.0 }), Sign::NON_POSITIVE);
    assert_eq!(through(Activation::LeakyRelu { alpha: -0.2 }), Sign::NON_NEGATIVE);
    assert_eq!(through(Activation::ThresholdedRelu { alpha: 0.5 }), Sign::NON_NEGATIVE);
    assert_eq!(Sign::NON_NEGATIVE.through(&Activation::Gelu { tanh: true }), Sign::NON_NEGATIVE);
}
