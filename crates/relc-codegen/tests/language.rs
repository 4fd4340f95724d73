//! The text form, the verifier's messages, and what calling a compiled kernel checks.

use relc_codegen::interp::{Data, interpret, zeroed};
use relc_codegen::jit::{Binding, Target, compile, listing};
use relc_codegen::kir::{Kernel, parse, unproven_disjoint, verify};

/// A kernel with this body, of one task variable `%t` in 0..4.
fn text(body: &str) -> String {
    format!(
        "kernel @k (in @x: f32[64], out @y: f32[64], const @w: f32[8], out @d: f64[8]) tasks=[4] {{
           for %t in tasks {{ {body} }}
         }}"
    )
}

fn kernel(body: &str) -> Kernel {
    parse(&text(body)).unwrap_or_else(|error| panic!("{error} in {body}"))
}

#[track_caller]
fn refused(body: &str, expected: &str) {
    let error = verify(&kernel(body)).unwrap_err().to_string();
    assert!(error.contains(expected), "got `{error}`, expected `{expected}`");
}

#[test]
fn text_round_trips() {
    let source = "\
kernel @a/b.c-1 (in @x: f32[64], inout @y: f64[8]) tasks=[2, 3] {
  for %t, %u in tasks {
    for %i in -4..4 step 2 unroll {
      let %a: f32x4 = load @x[%t*16 + %u*4 + %i*-1 + 4]
      let %b: f32 = const -inf
      let mut %c: f64x2 = const 1e-300
      let %d: f32x4 = load.splat @x[0]
      let %e: boolx4 = le %a, %d
      let %f: f32x4 = select %e, %a, %d
      let %g: f32 = extract %f, 3
      let %h: f64 = promote %g
      store %h, @y[%u]
      set %c = %c
    }
  }
}
";
    assert_eq!(parse(source).unwrap().to_string(), source);
}

#[test]
fn parse_errors_name_the_place() {
    let message = |source: &str| parse(source).unwrap_err().to_string();
    assert_eq!(message("kernel x"), "line 1, column 8: got `x`, expected a name with `@`");
    assert_eq!(
        message("kernel @k () tasks=[1] {\n  for %t in tasks {"),
        "line 2, column 20: got the end of the text, expected for, let, set, store or `}`"
    );
    let error = message(&text("store %v, @y[0]"));
    assert!(error.ends_with("got `%v`, which is not defined, expected a value"), "{error}");
    let error = message(&text("let %a: f32 = load @x[%a]"));
    assert!(error.ends_with("got `%a`, which is not defined, expected a loop variable"), "{error}");
    assert!(message("kernel @k (in @x: f32[-1]) ").contains("got `-1`, expected a length"));
    assert!(message("kernel #").contains("got a character that starts no token"));
    let deep = "for %i in 0..1 step 1 {".to_owned();
    let nested: String = (0..40).map(|k| deep.replace("%i", &format!("%i{k}"))).collect();
    assert!(message(&text(&nested)).contains("nested loops"));
}

#[test]
fn the_verifier_checks_bounds() {
    refused(
        "let %a: f32x4 = load @x[%t*20 + 1]",
        "at `let %a: f32x4 = load @x[%t*20 + 1]`: @x: got elements 1..65, expected them within 0..64",
    );
    verify(&kernel("let %a: f32x4 = load @x[%t*20]")).unwrap();
    refused("let %a: f32 = load @x[%t*-1 + 2]", "got elements -1..3");
    refused("for %i in 0..9 step 3 { let %a: f32 = load @w[%i + 2] }", "got elements 2..9");
    refused("let %a: f64x2 = load @d[7]", "got elements 7..9, expected them within 0..8");
}

/// Sums that wrap around must not look like small ones.
#[test]
fn indices_that_overflow_are_refused() {
    let nested = |vars: usize, range: &str, body: &str| {
        let loops: String = (0..vars).map(|k| format!("for %i{k} in {range} {{ ")).collect();
        format!("{loops}{body}{}", " }".repeat(vars))
    };
    let far = format!("{}..{} step 1", i64::MIN, i64::MAX);
    let sum = |vars: usize, coefficient: i64| {
        (0..vars).map(|k| format!("%i{k}*{coefficient}")).collect::<Vec<_>>().join(" + ")
    };
    for (vars, coefficient) in
        [(5, 1 << 62), (4, i64::MAX - 1), (8, i64::MIN + 1), (1, i64::MAX), (1, i64::MIN)]
    {
        let load = format!("let %a: f32 = load @x[{}]", sum(vars, coefficient));
        refused(&nested(vars, &far, &load), "got elements beyond all bounds, expected them within 0..64");
        let store = format!("let %a: f32 = const 0.0 store %a, @y[{}]", sum(vars, coefficient));
        let unproven = kernel(&nested(vars, &far, &store));
        assert_eq!(unproven_disjoint(&unproven), ["y"]);
    }
    // What saturates on the way stays refused, though the text cancels it.
    let back = format!("%t*{0} + %t + %t*-{0}", i64::MAX);
    refused(&format!("let %a: f32 = load @x[{back}]"), "got elements beyond all bounds");
    let back = format!("{0} + 1 + -{0}", i64::MAX);
    refused(&format!("let %a: f32 = load @x[{back}]"), "got elements beyond all bounds");
}

/// Loops of few rounds whose bounds are far apart.
#[test]
fn wide_steps_do_not_overflow() {
    let (low, high) = (i64::MIN, i64::MAX);
    for unroll in ["", " unroll"] {
        let body = format!(
            "for %i in {low}..{high} step {high}{unroll} {{ let %a: f32 = const 1.0 store %a, @y[%t] }}"
        );
        let kernel = kernel(&body);
        let compiled = compile(std::slice::from_ref(&kernel), &Target::host().unwrap()).unwrap();
        let mut interpreted = zeroed(&kernel);
        interpret(&kernel, &mut interpreted, 0..4, true).unwrap();
        let (x, w) = ([0.0; 64], [0.0; 8]);
        let (mut y, mut d) = ([0.0; 64], [0.0; 8]);
        let mut bound =
            [Binding::Read(&x), Binding::Write(&mut y), Binding::Read(&w), Binding::Write64(&mut d)];
        compiled.get(0).unwrap().call(&mut bound, 0..4).unwrap();
        assert_eq!(Data::F32(y.to_vec()), interpreted[1]);
    }
}

#[test]
fn the_verifier_checks_types_and_writes() {
    let load = "let %a: f32x4 = load @x[0] let %b: f32 = load @x[0]";
    refused(&format!("{load} let %c: f32x4 = add %a, %b"), "got f32, expected f32x4");
    refused(&format!("{load} let %c: f32 = neg %a"), "the result: got f32x4, expected f32");
    refused(&format!("{load} let %c: f64 = promote %a"), "got an operand of type f32x4, expected f32");
    refused(&format!("{load} let %c: f32 = extract %a, 4"), "got lane 4, expected 0 to 3");
    refused(&format!("{load} set %a = %a"), "got an immutable value");
    refused(&format!("{load} store %a, @w[0]"), "got a write to const @w, expected out or inout");
    refused("let %a: f32 = load @d[0]", "@d: got an access of type f32, expected f64");
    refused("let %a: bool = const 1.0", "got a constant bool");
    refused("let %a: f32 = const NaN", "expected a number that f32 holds");
    refused(
        &format!("{load} let %m: bool = lt %b, %b let %c: f32x4 = select %m, %a, %a"),
        "got bool, expected boolx4",
    );
}

#[test]
fn the_verifier_checks_structure() {
    refused("for %i in 4..4 step 1 { }", "got an empty loop");
    refused("for %i in 0..4 step 0 { }", "got step 0, expected at least 1");
    refused("for %i in 0..4 step 1 { } let %a: f32 = load @x[%i]", "got %i outside its loop");
    refused(
        "for %i in 0..4 step 1 { let %a: f32 = const 0.0 } store %a, @y[0]",
        "got %a, which is not defined here",
    );
    let huge = "for %i in 0..1000 step 1 unroll { for %j in 0..1000 step 1 unroll { } }";
    refused(huge, "after unrolling");
}

#[test]
fn disjointness_is_proven_where_it_is_simple() {
    let unproven = |body: &str| {
        let kernel = kernel(&format!("let %a: f32x4 = load @x[0] let %b: f32 = load @x[0] {body}"));
        unproven_disjoint(&kernel).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(unproven("store %a, @y[%t*4]").is_empty());
    assert_eq!(unproven("store %a, @y[%t*3]"), ["y"]);
    assert_eq!(unproven("store %a, @y[0]"), ["y"]);
    assert_eq!(unproven("store %b, @y[%t] store %b, @y[%t + 3]"), ["y"]);
    // The next slice of all tasks, and a loop over slices.
    assert!(unproven("store %b, @y[%t] store %b, @y[%t + 4]").is_empty());
    assert!(unproven("for %z in 0..4 step 1 { store %b, @y[%t + %z*4] }").is_empty());
    assert_eq!(unproven("for %z in 0..4 step 1 { store %b, @y[%t + %z*3] }"), ["y"]);
    assert_eq!(unproven("for %z in 0..4 step 1 { store %a, @y[%t + %z*4] }"), ["y"]);
    assert!(unproven("store %b, @y[%t*8] store %b, @y[%t*8 + 4]").is_empty());
}

#[test]
fn calls_are_checked() {
    let kernel = kernel("let %a: f32 = load @x[%t] store %a, @y[%t]");
    let compiled = compile(std::slice::from_ref(&kernel), &Target::host().unwrap()).unwrap();
    let function = compiled.get(0).unwrap();
    let x = [1.0; 64];
    let (mut y, mut d) = ([0.0; 64], [0.0; 8]);
    let mut call = |x: &[f32], w: &[f32], tasks| {
        let mut bound =
            [Binding::Read(x), Binding::Write(&mut y), Binding::Read(w), Binding::Write64(&mut d)];
        function.call(&mut bound, tasks).map_err(|error| error.to_string())
    };
    assert_eq!(call(&x, &x[..8], 0..4), Ok(()));
    assert_eq!(
        call(&x[..63], &x[..8], 0..4).unwrap_err(),
        "kernel @k, buffer @x: got f32[63] to read, expected f32[64] for in"
    );
    assert_eq!(
        call(&x, &x[..8], 3..5).unwrap_err(),
        "kernel @k: got tasks 3..5, expected a range within 0..4"
    );
    let mut shared =
        [Binding::Read(&x), Binding::Read(&x), Binding::Read(&x[..8]), Binding::Read64(&[0.0; 8])];
    let error = function.call(&mut shared, 0..1).unwrap_err().to_string();
    assert_eq!(error, "kernel @k, buffer @y: got f32[64] to read, expected f32[64] for out");
    assert!(function.call(&mut shared[..3], 0..1).is_err());
}

#[test]
fn listings_show_both_levels() {
    let kernel = kernel("for %i in 0..4 step 1 { let %a: f32 = load @x[%t + %i] store %a, @y[%t] }");
    let text = listing(&kernel, &Target::host().unwrap()).unwrap();
    assert!(text.contains("function u0:0"), "{text}");
    assert!(text.contains("block0:"), "{text}");
}

/// Executors share compiled kernels between threads.
#[test]
fn compiled_kernels_run_on_many_threads() {
    let kernel = kernel("let %a: f32x4 = load @x[%t*4] store %a, @y[%t*4]");
    let compiled = compile(std::slice::from_ref(&kernel), &Target::host().unwrap()).unwrap();
    let function = compiled.get(0).unwrap().clone();
    drop(compiled);
    let x: Vec<f32> = (0..64).map(|k| k as f32).collect();
    std::thread::scope(|scope| {
        for task in 0..4 {
            let (function, x) = (&function, &x);
            scope.spawn(move || {
                let (mut y, mut d) = ([f32::NAN; 64], [0.0; 8]);
                let mut bound = [
                    Binding::Read(x),
                    Binding::Write(&mut y),
                    Binding::Read(&x[..8]),
                    Binding::Write64(&mut d),
                ];
                function.call(&mut bound, task..task + 1).unwrap();
                assert_eq!(y[task * 4..task * 4 + 4], x[task * 4..task * 4 + 4]);
                assert_eq!(y.iter().filter(|value| value.is_nan()).count(), 60);
            });
        }
    });
}
