//! On which device compiled programs run.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use relc_program::Backend;
pub use relc_program::op::Precision;

use crate::compiler::{Compiler, Engine};
use crate::error::CompileError;

/// Where compiled programs run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// On this machine's processor.
    #[default]
    Cpu,
    /// On the NVIDIA GPU of this number.
    Cuda(usize),
    /// On the first GPU, and where there is none on the processor.
    Auto,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(0) => f.write_str("cuda"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
            Device::Auto => f.write_str("auto"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("got the device \"{text}\", expected cpu, cuda, cuda:N or auto");
        match text {
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            "auto" => Ok(Device::Auto),
            _ => {
                let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
                number.map(Device::Cuda).ok_or_else(wrong)
            }
        }
    }
}

impl Compiler {
    /// With a device for compiled programs, in place of the processor. A GPU needs the feature `cuda`, NVIDIA's driver and
    /// NVRTC, which are loaded here. `missing` hears why [`Device::Auto`] is the processor, which computes in fp32 whatever
    /// the precision.
    ///
    /// With another [precision](Precision) than fp32 a GPU's tensor cores multiply, where factors may be rounded: maps are
    /// as exact as that, and so is conservation.
    ///
    /// ```no_run
    /// # use relc::{Compiler, Device, Precision, Preset};
    /// let missing = |why: &str| eprintln!("{why}");
    /// let compiler = Compiler::new(Preset::named("two_level")?).device(Device::Auto, Precision::F32, missing)?;
    /// let explainer = compiler.compile("model.onnx")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Of a GPU, if there is none, or it has no such tensor cores, or a library is missing, or the engine is an interpreter;
    /// of the processor, if the precision is not fp32.
    pub fn device(
        self,
        device: Device,
        precision: Precision,
        missing: impl FnOnce(&str),
    ) -> Result<Self, CompileError> {
        if device == Device::Cpu {
            return match precision {
                Precision::F32 => Ok(self),
                _ => Err(CompileError::Device(format!(
                    "the processor computes in fp32; {precision} is of a GPU's tensor cores"
                ))),
            };
        }
        if self.engine != Engine::Jit {
            return match device {
                Device::Auto => Ok(self),
                _ => Err(CompileError::Device(format!(
                    "got the device {device} and the engine {}, expected jit: an interpreter runs on the processor",
                    self.engine.name()
                ))),
            };
        }
        let number = if let Device::Cuda(number) = device { number } else { 0 };
        match gpu(number, precision) {
            Ok(backend) => Ok(self.backend(backend)),
            Err(why) if device == Device::Auto => {
                missing(&why);
                Ok(self)
            }
            Err(why) => Err(CompileError::Device(why)),
        }
    }
}

/// The back end of a GPU; or what is missing.
#[cfg(feature = "cuda")]
fn gpu(number: usize, precision: Precision) -> Result<Arc<dyn Backend>, String> {
    let gpu = relc_cuda::driver::Gpu::new(number).map_err(|error| error.to_string())?;
    let cuda = relc_cuda::Cuda::new(Arc::new(gpu)).precision(precision).map_err(|error| error.to_string())?;
    Ok(Arc::new(cuda))
}

#[cfg(not(feature = "cuda"))]
fn gpu(_: usize, _: Precision) -> Result<Arc<dyn Backend>, String> {
    Err("this relc was built without CUDA: build it with --features cuda".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;

    #[test]
    fn names_are_read_back() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(3), Device::Auto] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CUDA"] {
            assert!(wrong.parse::<Device>().unwrap_err().contains("expected cpu, cuda, cuda:N or auto"));
        }
    }

    /// There is no GPU of this number on any machine.
    #[test]
    fn a_gpu_that_is_missing_is_an_error_and_auto_goes_on_without() {
        let compiler = Compiler::new(Preset::named("conserve").unwrap());
        let error = compiler.clone().device(Device::Cuda(4711), Precision::F32, |_| {}).unwrap_err();
        assert!(matches!(error, CompileError::Device(_)), "{error}");
        let error = compiler.clone().device(Device::Cpu, Precision::Tf32, |_| {}).unwrap_err();
        assert!(error.to_string().contains("the processor computes in fp32; tf32 is of a GPU"), "{error}");
        let interpreted = compiler.clone().engine(Engine::InterpF64);
        assert!(
            interpreted
                .clone()
                .device(Device::Cuda(0), Precision::F32, |_| {})
                .unwrap_err()
                .to_string()
                .contains("interpreter")
        );
        assert!(interpreted.device(Device::Auto, Precision::Tf32, |_| {}).is_ok());
        assert!(compiler.device(Device::Auto, Precision::Tf32, |_| {}).is_ok());
    }
}
