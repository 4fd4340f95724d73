//! A GPU for tests: the machine's; where it has none, a simulated one (`tests/simulated-gpu`), for which the test runs again in
//! a process of its own, that finds its libraries in place of NVIDIA's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use relc_cuda::{CudaError, Device, driver};

use crate::shared::skipped;

/// Tells a process that its GPU is simulated.
const SIMULATED: &str = "RELC_SIMULATED";

/// Runs a test, of this name, on a GPU.
///
/// # Panics
/// If it fails.
pub fn on_gpu(test: &str, run: impl FnOnce(Arc<dyn Device>)) {
    match driver::Gpu::new(0) {
        Ok(gpu) => run(Arc::new(gpu)),
        Err(CudaError::Missing(_)) if std::env::var_os(SIMULATED).is_none() => rerun(test, &[]),
        Err(error) => panic!("{error}"),
    }
}

/// Runs a test, of this name, where there is a simulated GPU, with such settings in its environment.
///
/// # Panics
/// If it fails.
pub fn simulated(test: &str, settings: &[(&str, &str)], run: impl FnOnce()) {
    match std::env::var_os(SIMULATED) {
        Some(_) => run(),
        None => rerun(test, settings),
    }
}

/// Runs a test in a process that finds a simulated GPU.
fn rerun(test: &str, settings: &[(&str, &str)]) {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = match FOLDER.get_or_init(libraries) {
        Ok(folder) => folder,
        Err(why) if std::env::var_os("CI").is_none() => return skipped(why),
        Err(why) => panic!("{why}"),
    };
    let cache = tempfile::tempdir().expect("a temporary folder");
    let mut path = folder.clone().into_os_string();
    if let Some(others) = std::env::var_os("LD_LIBRARY_PATH") {
        path.push(":");
        path.push(others);
    }
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args([test, "--exact", "--nocapture"])
        .env(SIMULATED, "1")
        .env("LD_LIBRARY_PATH", path)
        .env(driver::CACHE_VARIABLE, cache.path())
        .envs(settings.iter().copied())
        .output()
        .expect("this program again");
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && out.contains("1 passed"), "on a simulated GPU: {out}{err}");
}

/// The folder of the libraries, compiled now or before.
fn libraries() -> Result<PathBuf, String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("simulated-gpu");
    let beside = std::env::current_exe().expect("this program");
    let target = beside.parent().and_then(Path::parent).expect("a target folder").join("simulated-gpu");
    std::fs::create_dir_all(&target).map_err(|error| error.to_string())?;
    for name in ["cuda", "nvrtc"] {
        let (source, library) = (sources.join(format!("{name}.cpp")), target.join(format!("lib{name}.so")));
        let time = |file: &Path| file.metadata().and_then(|data| data.modified()).ok();
        if time(&library) > time(&source) {
            continue;
        }
        let part = target.join(format!("lib{name}.{}", std::process::id()));
        let compiler = std::env::var_os("CXX").unwrap_or_else(|| OsString::from("c++"));
        let output = Command::new(compiler)
            .args([
                "-std=c++17",
                "-O1",
                "-shared",
                "-fPIC",
                "-fvisibility=hidden",
                "-Wall",
                "-Wextra",
                "-Werror",
            ])
            .args([source.as_os_str(), "-o".as_ref(), part.as_os_str(), "-ldl".as_ref()])
            .output()
            .map_err(|error| format!("a C++ compiler can't be run: {error}"))?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::rename(part, library).map_err(|error| error.to_string())?;
    }
    Ok(target)
}
