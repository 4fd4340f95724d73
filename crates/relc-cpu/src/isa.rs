//! Which instructions the micro-kernels may use.

use std::fmt;
use std::str::FromStr;

/// The environment variable that forces a path: `portable`, `avx2`, `avx512`, `amx` or `neon`.
pub const ISA_VARIABLE: &str = "RELC_ISA";

/// An instruction set that micro-kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust, for every machine; vectors of 8.
    Portable,
    /// AVX2 and FMA on x86-64; vectors of 8.
    Avx2,
    /// AVX-512F on x86-64; vectors of 16.
    Avx512,
    /// AVX-512 with bf16, and AMX's tiles of bf16, on x86-64 under Linux; vectors of 16.
    Amx,
    /// NEON on aarch64; vectors of 8, in two registers.
    Neon,
}

/// Why an instruction set can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IsaError {
    /// No such name.
    #[error(
        "instruction set: got `{got}`, expected one of {}; correct or unset RELC_ISA", names(&Isa::ALL)
    )]
    Unknown {
        /// What was given.
        got: String,
    },
    /// The machine does not have it.
    #[error("instruction set `{wanted}`: this machine does not have it; it has {}; correct or unset RELC_ISA", names(.available))]
    Unavailable {
        /// What was asked for.
        wanted: Isa,
        /// What there is.
        available: Vec<Isa>,
    },
    /// The variable is no UTF-8.
    #[error("environment variable RELC_ISA: not UTF-8, expected one of {}", names(&Isa::ALL))]
    NotUnicode,
}

fn names(isas: &[Isa]) -> String {
    isas.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}

impl Isa {
    /// All of them, the narrowest first.
    pub const ALL: [Isa; 5] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Amx, Isa::Neon];

    /// Its name, as `RELC_ISA` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
            Isa::Neon => "neon",
        }
    }

    /// The vector width V: f32 elements of a register, and channels of a block.
    pub const fn width(self) -> usize {
        match self {
            Isa::Portable | Isa::Avx2 | Isa::Neon => 8,
            Isa::Avx512 | Isa::Amx => 16,
        }
    }

    /// The instruction set of its vectors: what all but tiles of matrices are compiled for.
    pub const fn vectors(self) -> Isa {
        match self {
            Isa::Amx => Isa::Avx512,
            isa => isa,
        }
    }

    /// Whether this machine runs it.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512f") && Isa::Avx2.is_available(),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Isa::Amx => amx::is_available(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            _ => false,
        }
    }

    /// What this machine runs, the narrowest first.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// The widest that this machine runs.
    pub fn best() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)
    }

    /// The one that `RELC_ISA` forces, else the widest that this machine runs.
    ///
    /// # Errors
    /// If the variable names no instruction set, or one that this machine does not have.
    pub fn detect() -> Result<Isa, IsaError> {
        match std::env::var(ISA_VARIABLE) {
            Ok(name) => Isa::forced(&name),
            Err(std::env::VarError::NotPresent) => Ok(Isa::best()),
            Err(std::env::VarError::NotUnicode(_)) => Err(IsaError::NotUnicode),
        }
    }

    /// The one of a name, if this machine runs it.
    ///
    /// # Errors
    /// As of [`Isa::detect`].
    pub fn forced(name: &str) -> Result<Isa, IsaError> {
        let wanted: Isa = name.parse()?;
        if wanted.is_available() {
            Ok(wanted)
        } else {
            Err(IsaError::Unavailable { wanted, available: Isa::available() })
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Isa, IsaError> {
        let found = Isa::ALL.into_iter().find(|isa| isa.name() == name);
        found.ok_or_else(|| IsaError::Unknown { got: name.to_owned() })
    }
}

/// Whether a process may use AMX: the CPU has it, and the system saves its tiles and lets us.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use std::arch::x86_64::{__cpuid_count, __get_cpuid_max, _xgetbv};
    use std::sync::LazyLock;

    use super::Isa;

    /// EDX of `cpuid` 7: AMX-BF16 and AMX-TILE.
    const FEATURES: u32 = 1 << 22 | 1 << 24;
    /// ECX of `cpuid` 1: XGETBV may be used.
    const OSXSAVE: u32 = 1 << 27;
    /// Of XCR0: the tiles' configuration and their data.
    const STATES: u64 = 3 << 17;
    /// `ARCH_REQ_XCOMP_PERM` of `arch_prctl`, and the component that it is asked for: the tiles' data.
    const REQUEST: libc::c_int = 0x1023;
    const TILE_DATA: libc::c_ulong = 18;

    pub fn is_available() -> bool {
        static AVAILABLE: LazyLock<bool> = LazyLock::new(|| {
            let vectors = Isa::Avx512.is_available()
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512bf16");
            vectors && is_saved() && is_permitted()
        });
        *AVAILABLE
    }

    fn is_saved() -> bool {
        let known = __get_cpuid_max(0).0 >= 7
            && __cpuid_count(7, 0).edx & FEATURES == FEATURES
            && __cpuid_count(1, 0).ecx & OSXSAVE != 0;
        // SAFETY: the system lets us ask what it saves.
        known && unsafe { saved() } & STATES == STATES
    }

    /// # Safety
    /// The CPU has XSAVE, and the system has enabled it.
    #[target_feature(enable = "xsave")]
    unsafe fn saved() -> u64 {
        // SAFETY: register 0 is there wherever XSAVE is.
        unsafe { _xgetbv(0) }
    }

    /// Asks that the tiles of this process's threads be saved; a system that knows nothing of it refuses.
    fn is_permitted() -> bool {
        // SAFETY: the call changes what is saved, and accesses nothing of ours.
        unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST, TILE_DATA) == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_wrong_ones_refused() {
        for isa in Isa::ALL {
            assert_eq!(isa.name().parse(), Ok(isa));
        }
        let error = Isa::forced("sse9").unwrap_err();
        assert_eq!(
            error.to_string(),
            "instruction set: got `sse9`, expected one of portable, avx2, avx512, amx, neon; correct or unset RELC_ISA"
        );
    }

    #[test]
    fn an_unavailable_one_is_refused_with_what_there_is() {
        let error = IsaError::Unavailable { wanted: Isa::Avx512, available: vec![Isa::Portable, Isa::Avx2] };
        assert!(error.to_string().contains("it has portable, avx2;"), "{error}");
        for isa in Isa::ALL {
            assert_eq!(Isa::forced(isa.name()).is_ok(), isa.is_available());
        }
    }

    #[test]
    fn the_portable_path_is_always_there() {
        assert_eq!(Isa::available()[0], Isa::Portable);
        assert_eq!(Isa::available().last(), Some(&Isa::best()));
    }
}
