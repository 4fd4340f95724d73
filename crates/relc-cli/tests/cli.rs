//! The command as a user runs it, on the demo model.

mod support;

use std::path::Path;

use ndarray::{Array2, Array4, ArrayD};
use relc::files::{read_npy_f32, write_npy_f32};
use relc::unstable::program::{Step, parse, verify};
use serde_json::Value;

use support::{check_fails, check_ok, command, demo, explain, folder, path, pictures, relc, relc_on, run};

#[test]
fn a_picture_is_explained_with_pictures_arrays_and_reports() {
    let dir = folder();
    let (out, out_text) = path(&dir, "out");
    let (relevance, relevance_text) = path(&dir, "r.npy");
    let (map, map_text) = path(&dir, "m.npy");
    let pictures = pictures();
    let inputs: Vec<&str> = pictures.iter().take(3).map(String::as_str).collect();
    let more =
        ["--out", &out_text, "--relevance-npy", &relevance_text, "--map-npy", &map_text, "--batch", "2"];
    let labels = demo("labels.txt");
    let stdout = check_ok(&explain(&inputs, &[&more[..], &["--labels", &labels]].concat()));
    assert!(stdout.contains("conservation error"), "{stdout}");
    assert_eq!(read_npy_f32(&relevance).unwrap().shape(), [3, 3, 64, 64]);
    let maps = read_npy_f32(&map).unwrap();
    assert_eq!(maps.shape(), [3, 64, 64]);
    for (i, input) in inputs.iter().enumerate() {
        let folder = out.join(Path::new(input).file_stem().unwrap());
        let own = read_npy_f32(&folder.join("map.npy")).unwrap();
        assert_eq!(own.view(), maps.index_axis(ndarray::Axis(0), i));
        for picture in ["heat.png", "overlay.png"] {
            assert_eq!(image::open(folder.join(picture)).unwrap().width(), 256);
        }
        let report: Value =
            serde_json::from_slice(&std::fs::read(folder.join("report.json")).unwrap()).unwrap();
        let explanation = &report["explanations"][0];
        assert!(explanation["sums"]["conservation_error"].as_f64().unwrap() <= 1e-5);
        assert_eq!(explanation["target"]["label"], report["predictions"][0]["label"]);
        let sum: f64 = own.iter().map(|v| f64::from(*v)).sum();
        assert!((sum - explanation["sums"]["relevance"].as_f64().unwrap()).abs() < 1e-4 * sum.abs());
        assert!(explanation["joins"][0]["skip_share"].as_f64().unwrap() > 0.0);
        assert_eq!(report["compiled"]["claim"]["conserving"], true);
    }
}

#[test]
fn json_on_standard_output_is_json_alone() {
    let picture = pictures().remove(0);
    let stdout = check_ok(&explain(&[&picture], &["--json", "-", "--preset", "paper", "--explain-rules"]));
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["compiled"]["preset"], "paper");
    assert_eq!(report["results"][0]["explanations"][0]["seed"], "prob");
    assert!(report["rules"][0]["origin"].as_str().unwrap().starts_with("preset paper, line "));
    let ledger = &report["results"][0]["explanations"][0]["ledger"];
    let lost: f64 = ledger["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| {
            ["bias", "stabiliser", "clipped", "padding"].iter().map(|k| n[k].as_f64().unwrap()).sum::<f64>()
        })
        .sum();
    let total = &ledger["total"];
    let gap = total["seed"].as_f64().unwrap() - total["inputs"].as_f64().unwrap() - lost;
    assert!(gap.abs() < 1e-5, "{gap}");
}

#[test]
fn arrays_several_targets_and_seeds_from_files() {
    let dir = folder();
    let (x, x_text) = path(&dir, "x.npy");
    let (seed, seed_text) = path(&dir, "seed.npy");
    let (maps, maps_text) = path(&dir, "maps.npy");
    let input =
        Array4::from_shape_fn((2, 3, 64, 64), |(n, c, y, x)| ((n + 3 * c + y * x) as f32 * 0.37).sin());
    write_npy_f32(&x, input.view().into_dyn()).unwrap();
    check_ok(&explain(&[&x_text], &["--target", "top3", "--map-npy", &maps_text, "--engine", "interp-f64"]));
    assert_eq!(read_npy_f32(&maps).unwrap().shape(), [3, 2, 64, 64]);

    let outputs = std::fs::read_to_string(demo("labels.txt")).unwrap().lines().count();
    write_npy_f32(&seed, ArrayD::from_elem(vec![2, outputs], 0.5).view()).unwrap();
    let json = check_ok(&explain(&[&x_text], &["--seed", &seed_text, "--json", "-"]));
    let report: Value = serde_json::from_str(&json).unwrap();
    let sums = &report["results"][1]["explanations"][0]["sums"];
    assert!((sums["seed"].as_f64().unwrap() - 0.5 * outputs as f64).abs() < 1e-9);
    assert!(sums["conservation_error"].as_f64().unwrap() < 1e-5);

    write_npy_f32(&seed, Array2::<f32>::zeros((2, 1)).view().into_dyn()).unwrap();
    check_fails(&explain(&[&x_text], &["--seed", &seed_text]), 1, &["the seed has the shape [2, 1]"]);
    check_fails(
        &explain(&[&x_text], &["--seed", &seed_text, "--target", "1"]),
        2,
        &["--target does nothing with the seed"],
    );
    check_fails(
        &explain(&[&x_text, &x_text], &["--seed", &seed_text]),
        1,
        &["a row for each of the 4 samples"],
    );
}

/// Each sample gets its own row of the seed, whatever the batches are.
#[test]
fn a_seed_with_a_row_per_sample_is_cut_as_the_inputs_are() {
    let dir = folder();
    let (x, x_text) = path(&dir, "x.npy");
    let (seed, seed_text) = path(&dir, "seed.npy");
    write_npy_f32(
        &x,
        Array4::from_shape_fn((3, 3, 64, 64), |(.., y, x)| (y * x) as f32 * 0.01).view().into_dyn(),
    )
    .unwrap();
    let rows = Array2::from_shape_fn((3, 8), |(sample, output)| (10 * (sample + 1) + output) as f32);
    write_npy_f32(&seed, rows.view().into_dyn()).unwrap();
    let json = check_ok(&explain(&[&x_text], &["--seed", &seed_text, "--batch", "2", "--json", "-"]));
    let report: Value = serde_json::from_str(&json).unwrap();
    for (sample, row) in rows.outer_iter().enumerate() {
        let sums = &report["results"][sample]["explanations"][0]["sums"];
        assert_eq!(sums["seed"].as_f64().unwrap(), f64::from(row.sum()), "sample {sample}");
    }
}

#[test]
fn warnings_go_to_standard_error_even_with_json() {
    let dir = folder();
    let (labels, labels_text) = path(&dir, "labels.txt");
    std::fs::write(&labels, "one\ntwo\n").unwrap();
    let output = explain(&[&pictures().remove(0)], &["--labels", &labels_text, "--json", "-"]);
    serde_json::from_str::<Value>(&check_ok(&output)).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("the labels are 2 lines, the model has 8 outputs"), "{stderr}");
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_is_expected() {
    let picture = pictures().remove(0);
    let fails = |more: &[&str], says: &[&str]| check_fails(&explain(&[&picture], more), 2, says);
    fails(&["--preset", "papr"], &["did you mean \"paper\"?"]);
    fails(&["--target", "disk", "--labels", &demo("labels.txt")], &["did you mean \"disc\"?"]);
    fails(&["--split", "thirds"], &["half-at-projection"]);
    fails(&["--bias", "include"], &["use the preset \"paper\""]);
    fails(&["--seed", "logits"], &["expected one of prob, logit, onehot"]);
    fails(&["--colormap", "seismik"], &["did you mean \"seismic\"?"]);
    fails(&["--batch", "0"], &["--batch"]);
    let misspelt = relc(&["explain", &demo("model.onnx"), &picture, "--preprocess", "imagnet"]);
    check_fails(&misspelt, 2, &["did you mean \"imagenet\"?"]);
    check_fails(&relc(&["dump", &demo("model.onnx"), "--after", "simplify"]), 2, &["find-residuals"]);
}

#[test]
fn bad_files_exit_with_1_and_leave_nothing() {
    let dir = folder();
    let (bad, bad_text) = path(&dir, "bad.onnx");
    let model = std::fs::read(demo("model.onnx")).unwrap();
    std::fs::write(&bad, &model[..model.len() / 2]).unwrap();
    let picture = pictures().remove(0);
    check_fails(&relc(&["explain", &bad_text, &picture]), 1, &["can't import", "truncated"]);
    check_fails(&relc(&["explain", "no-such.onnx", &picture]), 1, &["no-such.onnx"]);
    check_fails(&explain(&["no-such.png"], &[]), 1, &["can't read no-such.png"]);
    let labels = demo("labels.txt");
    let (_, empty) = path(&dir, "empty");
    check_fails(&explain(&[&labels], &["--out", &empty]), 1, &["can't read the picture"]);
    check_fails(&explain(&[&picture], &["--target", "99"]), 1, &["target 99 is out of range"]);
    let (_, nowhere) = path(&dir, "no/where.json");
    check_fails(&explain(&[&picture], &["--json", &nowhere]), 1, &["can't write", "where.json"]);

    let (x, x_text) = path(&dir, "x.npy");
    write_npy_f32(&x, ArrayD::zeros(vec![1, 3, 32, 64]).view()).unwrap();
    let (_, out) = path(&dir, "maps.npy");
    check_fails(&explain(&[&x_text], &["--map-npy", &out]), 1, &["expected f32[N,3,64,64]"]);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn check_and_dump_show_what_the_compiler_made() {
    let stdout = check_ok(&relc(&["check", &demo("model.onnx")]));
    assert!(
        stdout.contains("supported") && stdout.contains("projection") && stdout.contains("identity"),
        "{stdout}"
    );
    let text = check_ok(&relc(&["dump", &demo("model.onnx"), "--after", "find-residuals"]));
    let graph = relc::unstable::ir::parse(&text).unwrap();
    assert_eq!(graph.to_string(), text);
    assert!(!graph.residuals.is_empty());
    let json: Value =
        serde_json::from_str(&check_ok(&relc(&["dump", &demo("model.onnx"), "--format", "json"]))).unwrap();
    assert_eq!(json["claim"]["conserving"], true);
    assert!(check_ok(&relc(&["dump", &demo("model.onnx"), "--format", "dot"])).starts_with("digraph"));
    let all = check_ok(&relc(&["dump", &demo("model.onnx"), "--print-after-all"]));
    assert_eq!(all.matches("; after ").count(), 22);
}

#[test]
fn presets_are_listed_shown_and_extended() {
    let list = check_ok(&relc(&["preset", "list"]));
    assert!(list.contains("conserve") && list.contains("epsilon_gamma_box"), "{list}");
    assert!(check_ok(&relc(&["preset", "show", "paper"])).contains("window = \"paper\""));
    check_fails(&relc(&["preset", "show", "epsilon_pluss"]), 2, &["did you mean \"epsilon_plus\"?"]);

    let dir = folder();
    let (file, text) = path(&dir, "mine.toml");
    let picture = pictures().remove(0);
    std::fs::write(
        &file,
        "extends = \"conserve\"\nname = \"mine\"\n\n[[rule]]\nop = \"Conv\"\ndepth = [1, 2]\nrule = \"wsquare\"\n\
         fallback = \"flat\"\n\n[[split_at]]\nname = \"*\"\npolicy = \"half\"\n",
    )
    .unwrap();
    let json = check_ok(&explain(&[&picture], &["--preset", &text, "--json", "-", "--explain-rules"]));
    let report: Value = serde_json::from_str(&json).unwrap();
    let rules = report["rules"].as_array().unwrap();
    let by = |origin: &str| rules.iter().filter(|r| r["origin"] == origin).count();
    assert!(by("preset mine, line 4") > 0 && by("preset mine, line 10") > 0, "{rules:?}");
    assert!(rules.iter().any(|r| r["origin"].as_str().unwrap().starts_with("preset conserve, line")));

    std::fs::write(&file, "extends = \"conserve\"\n[[rule]]\nname = \"no/such*\"\nrule = \"pass\"\n")
        .unwrap();
    check_fails(&explain(&[&picture], &["--preset", &text]), 1, &["line 2", "\"no/such*\"", "did you mean"]);
    std::fs::write(&file, "extends = \"conserve\"\nsead = \"logit\"\n").unwrap();
    check_fails(&explain(&[&picture], &["--preset", &text]), 1, &["line 2", "did you mean \"seed\"?"]);
}

#[test]
fn methods_run_and_say_what_they_take() {
    let dir = folder();
    let (map, map_text) = path(&dir, "m.npy");
    let picture = pictures().remove(0);
    let cam = check_ok(&explain(&[&picture], &["--method", "grad_cam", "--map-npy", &map_text]));
    assert!(!cam.contains("conservation error"), "{cam}");
    assert!(read_npy_f32(&map).unwrap().iter().all(|v| *v >= 0.0));
    check_ok(&explain(
        &[&picture],
        &["--method", "integrated_gradients", "--samples", "4", "--map-npy", &map_text],
    ));
    let bench = ["bench", &demo("model.onnx"), "--method", "smoothgrad", "--samples", "3", "--runs", "1"];
    assert!(check_ok(&relc(&bench)).contains("method smoothgrad"));
    check_fails(&explain(&[&picture], &["--method", "gradcam"]), 2, &["did you mean \"grad_cam\"?"]);
    check_fails(&explain(&[&picture], &["--method", "rise", "--sigma", "1.0"]), 2, &["no use for sigma"]);
    check_fails(&explain(&[&picture], &["--method", "rise", "--preset", "paper"]), 2, &["--preset"]);
    check_ok(&explain(&[&picture], &["--preset", "epsilon_gamma_box", "--map-npy", &map_text]));
}

#[test]
fn two_targets_are_compared_and_the_contrast_seed_tells_them_apart() {
    let picture = pictures().remove(0);
    let cosine = |seed: &str| {
        let more =
            ["--compare", "disc", "square", "--labels", &demo("labels.txt"), "--seed", seed, "--json", "-"];
        let report: Value = serde_json::from_str(&check_ok(&explain(&[&picture], &more))).unwrap();
        let sensitivity = &report["results"][0]["class_sensitivity"];
        assert_eq!(sensitivity["targets"][1]["label"], "square");
        sensitivity["cosine"].as_f64().unwrap()
    };
    let report = |more: &[&str]| -> Value {
        let more = [&["--json", "-", "--preset", "conserve"], more].concat();
        serde_json::from_str(&check_ok(&explain(&[&picture], &more))).unwrap()
    };
    let (with, without) = (report(&[]), report(&["--no-class-sensitivity"]));
    let [with, without] = [&with["results"][0], &without["results"][0]];
    assert_eq!(with["explanations"], without["explanations"]);
    assert_eq!(with["class_sensitivity"]["targets"][1]["index"], with["predictions"][1]["index"]);
    assert!(without["class_sensitivity"].is_null());
    // The second logit is negative: the same map, turned around.
    assert!(with["class_sensitivity"]["cosine"].as_f64().unwrap() < -0.95);
    assert!(with["class_sensitivity"]["hint"].as_str().unwrap().contains("--seed contrast"));
    let (onehot, contrast) = (cosine("onehot"), cosine("contrast"));
    assert!(contrast < onehot, "contrast {contrast}, onehot {onehot}");
    check_fails(&explain(&[&picture], &["--compare", "1", "top2"]), 2, &["an output's index or label"]);
}

#[test]
fn intermediate_relevance_is_written_and_cuts_are_masked() {
    let dir = folder();
    let (npz, npz_text) = path(&dir, "t.npz");
    let picture = pictures().remove(0);
    let tap = |more: &[&str]| {
        let base = ["--tap", "*", "--reduce", "channel", "--tap-npz", &npz_text, "--json", "-"];
        let report: Value =
            serde_json::from_str(&check_ok(&explain(&[&picture], &[&base, more].concat()))).unwrap();
        report["results"][0]["explanations"][0]["sums"]["relevance"].as_f64().unwrap()
    };
    let whole = tap(&[]);
    assert!(npz.metadata().unwrap().len() > 1000);
    let text = check_ok(&relc(&["dump", &demo("model.onnx"), "--after", "find-residuals"]));
    let graph = relc::unstable::ir::parse(&text).unwrap();
    let join = graph.node(graph.residuals[0].join).name.clone();
    let masked: f64 = (0..2)
        .map(|half| {
            let channels = graph.node(graph.residuals[0].join).types()[0].dims()[1].fixed().unwrap();
            let list: Vec<String> = (0..channels).filter(|c| c % 2 == half).map(|c| c.to_string()).collect();
            tap(&["--mask", &format!("{join}={}", list.join(","))])
        })
        .sum();
    // What passes through the even channels and through the odd ones adds up to the whole.
    assert!((masked - whole).abs() < 1e-4 * whole.abs(), "{masked} for {whole}");
    check_fails(&explain(&[&picture], &["--tap", "no such node"]), 1, &["did you mean"]);
    check_fails(&explain(&[&picture], &["--mask", "conv"]), 2, &["GLOB=CHANNELS"]);
}

/// The small zoo's models that leave something open.
#[test]
fn outputs_and_shapes_are_options() {
    let zoo = |file: &str| concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/zoo/").to_string() + file;
    let two = zoo("basic.two-outputs.onnx");
    check_fails(&relc(&["check", &two]), 1, &["\"features\", \"logits\"", "--output"]);
    assert!(check_ok(&relc(&["check", &two, "--output", "logits"])).contains("2 residual join(s)"));
    check_fails(&relc(&["check", &two, "--output", "features"]), 1, &["--hold NAME=VALUE"]);
    check_ok(&relc(&["check", &two, "--output", "features", "--hold", "offset=0.5"]));
    let wrong = ["check", &two, "--output", "features", "--hold", "offset"];
    check_fails(&relc(&wrong), 2, &["NAME=NUMBER or NAME=FILE.npy"]);
    let open = zoo("basic.ts-dynamic.onnx");
    assert!(check_ok(&relc(&["check", &open])).contains("f32[N,3,224,224]"));
    assert!(check_ok(&relc(&["check", &open, "--input-shape", "N,3,32,40"])).contains("f32[N,3,32,40]"));
    for command in [&["dump"][..], &["dump", "--after", "lower"], &["bench", "--runs", "1"], &["profile"]] {
        check_fails(&relc(&[command, &[&two]].concat()), 1, &["--output"]);
        check_ok(&relc(&[command, &[&two, "--output", "logits"]].concat()));
        check_ok(&relc(&[command, &[&open, "--input-shape", "N,3,32,40"]].concat()));
    }
    check_fails(&relc(&["check", &open, "--input-shape", "3,wide"]), 2, &["N,3,224,224"]);
}

/// Where height and width are open, one explainer serves arrays and pictures of several sizes, each as it is alone.
#[test]
fn pictures_of_several_sizes_are_explained_in_turn() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/zoo/basic.ts-dynamic.onnx");
    let folder = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for (i, (width, height)) in [(32, 40), (48, 33), (32, 40)].into_iter().enumerate() {
        let name = folder.path().join(format!("{i}.png"));
        let picture =
            image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8 * 5, y as u8 * 6, 7]));
        picture.save(&name).unwrap();
        names.push(name.display().to_string());
    }
    let explain = |inputs: &[String], out: &Path| {
        let out = out.display().to_string();
        let inputs = inputs.iter().map(String::as_str);
        let args: Vec<&str> = ["explain", model]
            .into_iter()
            .chain(inputs)
            .chain(["--preprocess", "none", "--out", &out])
            .collect();
        check_ok(&relc(&args));
    };
    let (together, alone) = (folder.path().join("together"), folder.path().join("alone"));
    explain(&names, &together);
    explain(&names[1..2], &alone);
    let map = |out: &Path, stem: &str| std::fs::read(out.join(stem).join("map.npy")).unwrap();
    assert_eq!(map(&together, "1"), map(&alone, "1"));
    assert_eq!(map(&together, "0"), map(&together, "2"));
}

/// A model of bytes normalises them itself; the message says how to give it a picture, and that works.
#[test]
fn a_model_of_bytes_takes_bytes() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/quantised/bytes.onnx");
    let picture = &pictures()[0];
    assert!(check_ok(&relc(&["check", model])).contains("is of uint8: it takes whole numbers from 0 to 255"));
    check_fails(
        &relc(&["explain", model, picture]),
        1,
        &["whole numbers from 0 to 255", "--preprocess: scale = 1.0"],
    );
    let folder = folder();
    let (file, name) = path(&folder, "raw.toml");
    std::fs::write(file, "scale = 1.0\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n").unwrap();
    check_ok(&relc(&["explain", model, picture, "--preprocess", &name]));
}

#[test]
fn the_limit_of_constants_is_an_option() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/quantised/float.onnx");
    check_ok(&relc(&["check", model, "--constant-limit", "0.5"]));
    check_fails(&relc(&["check", model, "--constant-limit=-1"]), 2, &["expected a number of GiB"]);
}

/// The program that runs: what it prints parses back, and its convolutions do what would be steps of their own.
#[test]
fn the_program_is_printed_after_each_of_its_passes() {
    let model = demo("model.onnx");
    let dump = |after: &str| check_ok(&relc_on("portable", &["dump", &model, "--after", after]));
    let lowered = parse(&dump("lower")).unwrap();
    let planned = dump("plan-memory");
    let program = parse(&planned).unwrap();
    assert_eq!(program.to_string(), planned);
    assert!(verify(&program).is_ok());
    // The picture of three channels, in vectors of its own width, with the frame that the first convolution reads.
    assert!(planned.contains("%0: f32[N,3,64,64] blocks=3 halo=[1,1,1,1] slot=0\n"), "{planned}");
    let count = |steps: &[Step], op: &str| steps.iter().filter(|step| step.op.mnemonic() == op).count();
    // Every join and every fork of the demo has a convolution that takes its sum.
    assert!(count(&lowered.forward, "sum") > 0 && count(&lowered.backward, "sum") > 0);
    assert_eq!((count(&program.forward, "sum"), count(&program.backward, "sum")), (0, 0), "{planned}");
    assert_eq!(count(&program.forward, "relu"), 0, "{planned}");
    assert!(check_ok(&relc(&["dump", &model, "--after", "lower", "--format", "dot"])).starts_with("digraph"));
    let all = check_ok(&relc(&["dump", &model, "--print-after-all"]));
    let passes: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("; after ")).collect();
    assert_eq!(passes.len(), 22, "{passes:?}");
}

#[test]
fn the_kernels_of_a_node_are_printed() {
    let model = demo("model.onnx");
    let text = check_ok(&relc(&["dump", &model, "--after", "find-residuals"]));
    let graph = relc::unstable::ir::parse(&text).unwrap();
    let join = &graph.node(graph.residuals[0].join).name;
    let listing = check_ok(&relc(&["dump", &model, "--asm", join]));
    assert!(listing.contains("kernel @") && listing.contains("function "), "{listing}");
    let misspelt = format!("{join}s");
    check_fails(&relc(&["dump", &model, "--asm", &misspelt]), 2, &[&format!("did you mean \"{join}\"?")]);
}

#[test]
fn bench_reports_what_it_promises() {
    let model = demo("model.onnx");
    let bench = |more: &[&str]| {
        let args = [&["bench", &model, "--runs", "2", "--json"], more].concat();
        serde_json::from_str::<Value>(&check_ok(&relc(&args))).unwrap()
    };
    let report = bench(&["--batch", "3", "--threads", "2"]);
    for times in ["explain_ms", "forward_ms"] {
        let times = report[times].as_array().unwrap();
        assert!(times.len() == 2 && times.iter().all(|t| t.as_f64().unwrap() > 0.0), "{report}");
    }
    assert!(report["compile_ms"].as_f64().unwrap() > 0.0);
    for bytes in ["arena_bytes", "weights_bytes"] {
        assert!(report[bytes].as_u64().unwrap() > 0, "{bytes}: {report}");
    }
    #[cfg(unix)]
    assert!(report["peak_rss_bytes"].as_u64() > report["arena_bytes"].as_u64(), "{report}");
    assert!(relc::Isa::available().iter().any(|isa| report["isa"] == isa.name()), "{report}");
    assert_eq!((&report["threads"], &report["batch"]), (&2.into(), &3.into()));
    assert_eq!((&report["preset"], &report["engine"]), (&"two_level".into(), &"jit".into()));
    // As many samples run at a time as there are threads, or fewer.
    let alone = bench(&["--batch", "3", "--threads", "1"]);
    assert_eq!(report["arena_bytes"].as_u64(), alone["arena_bytes"].as_u64().map(|bytes| bytes * 2));

    let text = check_ok(&relc(&["bench", &model, "--runs", "1"]));
    for word in ["explain", "forward", "compile", "median", "packed weights"] {
        assert!(text.contains(word), "expected \"{word}\" in: {text}");
    }
    let interpreted = bench(&["--engine", "interp-f32"]);
    assert!(interpreted.get("isa").is_none(), "{interpreted}");
}

#[test]
fn profile_prints_a_table_of_steps() {
    let model = demo("model.onnx");
    let text = check_ok(&relc(&["profile", &model, "--runs", "1", "--threads", "1"]));
    for word in ["GFLOP/s", "of peak", "of time", "conv, quotient", "1 thread(s)"] {
        assert!(text.contains(word), "expected \"{word}\" in: {text}");
    }
    assert!(text.lines().last().unwrap().starts_with("forward "), "{text}");
    for word in ["MB", "GB/s", "bound us", "bound by", "arithmetic"] {
        assert!(text.contains(word), "expected \"{word}\" in: {text}");
    }
    let text = check_ok(&relc(&["profile", &model, "--runs", "1", "--model"]));
    for word in ["predicted us", "ratio", "predicted ", "are within a factor of 1.5 of the prediction"] {
        assert!(text.contains(word), "expected \"{word}\" in: {text}");
    }
    let json = check_ok(&relc(&["profile", &model, "--runs", "1", "--json"]));
    let report: Value = serde_json::from_str(&json).unwrap();
    let steps = report["steps"].as_array().unwrap();
    let shares: f64 = steps.iter().map(|step| step["of_time"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{shares}");
    let convolves = |step: &&Value| step["flops"].as_u64().unwrap() > 0;
    assert!(steps.iter().filter(convolves).all(|step| step["gflops_per_s"].as_f64().unwrap() > 0.0));
    assert!(steps.iter().any(|step| step["pass"] == "forward" && step["op"] == "conv"), "{json}");
    let positive = |step: &Value, key: &str| step[key].as_f64().is_some_and(|value| value > 0.0);
    for step in steps {
        assert!(positive(step, "predicted_us") && positive(step, "ratio"), "{step}");
        let bytes = ["l2", "l3", "memory"].map(|level| step["bytes_of"][level].as_f64().unwrap());
        assert_eq!(step["bytes"].as_f64().unwrap(), bytes.iter().sum::<f64>(), "{step}");
        // Nobody is predicted to beat the roofline.
        assert!(step["bound_us"].as_f64() <= step["predicted_us"].as_f64(), "{step}");
    }
    // More multiply-adds run than there are products: tails and padding.
    let plain = |step: &&Value| step["pass"] == "forward" && step["step"] == "conv";
    let runs =
        |step: &Value| 2.0 * step["multiply_adds"].as_f64().unwrap() >= step["flops"].as_f64().unwrap();
    assert!(steps.iter().filter(plain).all(runs), "{json}");
    assert!(report["near"]["within"].as_u64() <= report["near"]["steps"].as_u64(), "{json}");
    let interpreted = relc(&["profile", &model, "--engine", "interp-f32"]);
    check_fails(&interpreted, 2, &["use --engine jit"]);
}

#[test]
fn an_instruction_set_is_forced_or_refused() {
    let model = demo("model.onnx");
    let bench = ["bench", &model, "--runs", "1", "--json"];
    for isa in relc::Isa::ALL {
        let output = relc_on(isa.name(), &bench);
        if isa.is_available() {
            let report: Value = serde_json::from_str(&check_ok(&output)).unwrap();
            assert_eq!(report["isa"], isa.name());
        } else {
            check_fails(&output, 1, &[isa.name(), "this machine does not have it", "unset RELC_ISA"]);
        }
    }
    check_fails(
        &relc_on("nonsense", &bench),
        1,
        &["got `nonsense`, expected one of portable, avx2, avx512, amx, neon", "unset RELC_ISA"],
    );
}

#[test]
fn a_machine_is_named_or_refused() {
    let model = demo("model.onnx");
    let profile = ["profile", &model, "--runs", "1", "--json"];
    let on = |machine: &str| run(command(&profile).env("RELC_MACHINE", machine));
    let report: Value = serde_json::from_str(&check_ok(&on("haswell"))).unwrap();
    assert_eq!(report["machine"], "haswell");
    check_fails(&on("zen9"), 1, &["got `zen9`, expected one of zen2, zen3,", "unset RELC_MACHINE"]);
}

/// As many threads as there are processors do all that more could do, and a word says so.
#[test]
fn threads_are_bounded_by_the_processors() {
    let output = explain(&[&pictures().remove(0)], &["--threads", "20000", "--json", "-"]);
    let report: Value = serde_json::from_str(&check_ok(&output)).unwrap();
    assert!(report["results"][0]["explanations"].is_array());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("note: 20000 threads asked for") && stderr.contains("one for each processor"),
        "{stderr}"
    );
}
