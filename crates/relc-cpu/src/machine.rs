//! What is known of the machine: facts of its CPU, looked up and never timed, so that one machine always gets one program.
//!
//! A [`Machine`] is a [class](Class) of cores, whose rates a table has, an instruction set, and the sizes of the caches. The
//! CPU says by `cpuid` which class it is and how large its caches are; the environment variable `RELC_MACHINE` names another
//! class, with the caches of the table.

use std::fmt;
use std::str::FromStr;

use crate::isa::Isa;

/// The environment variable that names a class of machines in place of this one's.
pub const MACHINE_VARIABLE: &str = "RELC_MACHINE";

/// A class of machines: cores of about the same rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Class {
    /// AMD Zen 2: family 23, models from 48 on.
    Zen2,
    /// AMD Zen 3: family 25.
    Zen3,
    /// AMD Zen 4: family 25, models 16 to 31 and from 96 on.
    Zen4,
    /// AMD Zen 5: family 26.
    Zen5,
    /// Intel's Haswell, Broadwell, and the Skylake of desktops: two multiply-adds of 256 bits.
    Haswell,
    /// Intel's Skylake, Cascade Lake and Cooper Lake of servers.
    SkylakeAvx512,
    /// Intel's Ice Lake of servers.
    Icelake,
    /// Intel's Sapphire Rapids.
    SapphireRapids,
    /// Intel's Emerald Rapids and Granite Rapids.
    EmeraldRapids,
    /// Arm's Neoverse.
    Neoverse,
    /// Apple's M1 and later.
    Apple,
    /// Any other with AVX-512.
    GenericAvx512,
    /// Any other with AVX2.
    GenericAvx2,
    /// Any other.
    Generic,
}

/// A level of memory; the first is the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The first data cache.
    L1,
    /// The second cache.
    L2,
    /// The third cache.
    L3,
    /// What lies beyond the caches.
    Memory,
}

impl Level {
    /// All of them, the nearest first.
    pub const ALL: [Level; 4] = [Level::L1, Level::L2, Level::L3, Level::Memory];

    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Level::L1 => "l1",
            Level::L2 => "l2",
            Level::L3 => "l3",
            Level::Memory => "memory",
        }
    }
}

/// A row of the table.
struct Row {
    class: Class,
    name: &'static str,
    /// The clock under load, in GHz.
    clock: f64,
    /// f32 multiply-adds of one core in a cycle: by portable code, by vectors of 256 bits (AVX2; of NEON two of 128), and of
    /// 512. Portable code has vectors of 128 bits, and where the compiler may not assume more, multiplications and additions
    /// apart.
    multiply_adds: [f64; 3],
    /// Bytes that one core reads in a cycle from L1, L2, L3 and memory.
    bytes: [f64; 4],
    /// L1d and L2 of a core, and the L3 that it reaches, in KiB.
    caches: [usize; 3],
}

const fn row(
    class: Class,
    name: &'static str,
    clock: f64,
    multiply_adds: [f64; 3],
    bytes: [f64; 4],
    caches: [usize; 3],
) -> Row {
    Row { class, name, clock, multiply_adds, bytes, caches }
}

/// The classes. Bytes are what a core sustains, which is below what its manual says: those of `zen3` and `emerald-rapids`
/// were measured (`examples/machine_bench.rs`), the others scaled after them by the widths of their paths.
const TABLE: [Row; 14] = [
    row(Class::Zen2, "zen2", 3.2, [8.0, 16.0, 16.0], [60.0, 26.0, 12.0, 5.0], [32, 512, 16384]),
    row(Class::Zen3, "zen3", 3.0, [8.0, 16.0, 16.0], [58.0, 30.0, 17.0, 5.0], [32, 512, 32768]),
    row(Class::Zen4, "zen4", 3.5, [8.0, 16.0, 16.0], [60.0, 30.0, 16.0, 5.0], [32, 1024, 32768]),
    row(Class::Zen5, "zen5", 4.3, [8.0, 16.0, 32.0], [120.0, 50.0, 18.0, 7.0], [48, 1024, 32768]),
    row(Class::Haswell, "haswell", 3.0, [4.0, 16.0, 16.0], [60.0, 25.0, 9.0, 5.0], [32, 256, 20480]),
    row(
        Class::SkylakeAvx512,
        "skylake-avx512",
        2.7,
        [4.0, 16.0, 32.0],
        [74.0, 42.0, 8.0, 4.0],
        [32, 1024, 16384],
    ),
    row(Class::Icelake, "icelake", 2.8, [4.0, 16.0, 32.0], [74.0, 42.0, 8.5, 4.1], [48, 1280, 32768]),
    row(
        Class::SapphireRapids,
        "sapphire-rapids",
        2.7,
        [4.0, 16.0, 32.0],
        [74.0, 42.0, 8.5, 4.1],
        [48, 2048, 65536],
    ),
    row(
        Class::EmeraldRapids,
        "emerald-rapids",
        2.7,
        [4.0, 16.0, 32.0],
        [74.0, 42.0, 8.5, 4.1],
        [48, 2048, 131072],
    ),
    row(Class::Neoverse, "neoverse", 2.6, [4.0, 8.0, 8.0], [40.0, 24.0, 10.0, 5.0], [64, 1024, 32768]),
    row(Class::Apple, "apple", 3.2, [8.0, 16.0, 16.0], [45.0, 30.0, 20.0, 16.0], [128, 4096, 8192]),
    row(
        Class::GenericAvx512,
        "generic-avx512",
        2.8,
        [4.0, 16.0, 32.0],
        [74.0, 42.0, 9.0, 4.0],
        [32, 1024, 16384],
    ),
    row(
        Class::GenericAvx2,
        "generic-avx2",
        3.0,
        [4.0, 16.0, 16.0],
        [60.0, 25.0, 10.0, 4.0],
        [32, 512, 16384],
    ),
    row(Class::Generic, "generic", 2.5, [4.0; 3], [30.0, 16.0, 8.0, 4.0], [32, 512, 8192]),
];

impl Class {
    /// All of them.
    pub const ALL: [Class; TABLE.len()] = {
        let mut all = [Class::Generic; TABLE.len()];
        let mut i = 0;
        while i < TABLE.len() {
            all[i] = TABLE[i].class;
            i += 1;
        }
        all
    };

    fn row(self) -> &'static Row {
        // The table has every class; its last row is that of any machine.
        TABLE.iter().find(|row| row.class == self).unwrap_or(&TABLE[TABLE.len() - 1])
    }

    /// Its name, as `RELC_MACHINE` takes it.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The class of any machine that has an instruction set.
    pub fn generic(isa: Isa) -> Class {
        match isa {
            Isa::Portable => Class::Generic,
            Isa::Avx2 => Class::GenericAvx2,
            Isa::Avx512 => Class::GenericAvx512,
            Isa::Amx => Class::SapphireRapids,
            Isa::Neon => Class::Neoverse,
        }
    }

    /// The class of this machine.
    pub fn detect() -> Class {
        #[cfg(target_arch = "x86_64")]
        if let Some(class) = cpuid::class() {
            return class;
        }
        match (cfg!(target_arch = "aarch64"), cfg!(target_vendor = "apple")) {
            (true, true) => Class::Apple,
            (true, false) => Class::Neoverse,
            _ => Class::generic(Isa::best()),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a machine can't be named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// No such name.
    #[error("machine: got `{got}`, expected one of {}; correct or unset RELC_MACHINE", names())]
    Unknown {
        /// What was given.
        got: String,
    },
    /// The variable is no UTF-8.
    #[error("environment variable RELC_MACHINE: not UTF-8, expected one of {}", names())]
    NotUnicode,
}

fn names() -> String {
    TABLE.map(|row| row.name).join(", ")
}

impl FromStr for Class {
    type Err = MachineError;

    fn from_str(name: &str) -> Result<Class, MachineError> {
        let found = TABLE.iter().find(|row| row.name == name).map(|row| row.class);
        found.ok_or_else(|| MachineError::Unknown { got: name.to_owned() })
    }
}

/// A machine that programs are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    /// Which kind of core.
    pub class: Class,
    /// The instruction set.
    pub isa: Isa,
    /// Bytes of L1d and L2 of a core, and of the L3 that it reaches.
    pub caches: [usize; 3],
}

impl Machine {
    /// A machine of a class, with the caches of the table.
    pub fn of(class: Class, isa: Isa) -> Machine {
        Machine { class, isa, caches: class.row().caches.map(|kib| kib << 10) }
    }

    /// Any machine that has an instruction set.
    pub fn generic(isa: Isa) -> Machine {
        Machine::of(Class::generic(isa), isa)
    }

    /// The one that `RELC_MACHINE` names, else this one, with an instruction set.
    ///
    /// # Errors
    /// If the variable names no class.
    pub fn detect(isa: Isa) -> Result<Machine, MachineError> {
        match std::env::var(MACHINE_VARIABLE) {
            Ok(name) => Ok(Machine::of(name.parse()?, isa)),
            Err(std::env::VarError::NotPresent) => Ok(Machine::host(isa)),
            Err(std::env::VarError::NotUnicode(_)) => Err(MachineError::NotUnicode),
        }
    }

    /// This one.
    pub fn host(isa: Isa) -> Machine {
        let machine = Machine::of(Class::detect(), isa);
        #[cfg(target_arch = "x86_64")]
        if let Some(caches) = cpuid::caches() {
            return Machine { caches, ..machine };
        }
        machine
    }

    /// The clock of a core under load, in cycles a second.
    pub fn clock(&self) -> f64 {
        self.class.row().clock * 1e9
    }

    /// f32 multiply-adds that one core does in a cycle.
    pub fn multiply_adds(&self) -> f64 {
        let [portable, double, wide] = self.class.row().multiply_adds;
        match self.isa {
            Isa::Portable => portable,
            Isa::Avx2 | Isa::Neon => double,
            Isa::Avx512 | Isa::Amx => wide,
        }
    }

    /// Bytes that one core reads in a cycle from a level.
    pub fn bytes(&self, level: Level) -> f64 {
        self.class.row().bytes[level as usize]
    }

    /// The nearest level that keeps so many bytes, with as much room for what else is in use.
    pub fn level_of(&self, bytes: usize) -> Level {
        let kept = |size: &usize| bytes <= size / 2;
        self.caches.iter().position(kept).map_or(Level::Memory, |cache| Level::ALL[cache])
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [l1, l2, l3] = self.caches.map(|bytes| bytes >> 10);
        write!(f, "{} ({}, L1d {l1} KiB, L2 {l2} KiB, L3 {l3} KiB)", self.class, self.isa)
    }
}

/// What the CPU says of itself.
#[cfg(target_arch = "x86_64")]
mod cpuid {
    use std::arch::x86_64::{__cpuid, __cpuid_count, __get_cpuid_max};

    use super::Class;

    /// Vendors, as `cpuid` spells them.
    const AMD: &[u8; 12] = b"AuthenticAMD";
    const INTEL: &[u8; 12] = b"GenuineIntel";

    fn vendor() -> [u8; 12] {
        let leaf = __cpuid(0);
        let mut name = [0; 12];
        for (to, from) in name.chunks_exact_mut(4).zip([leaf.ebx, leaf.edx, leaf.ecx]) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        name
    }

    /// The class that the table has, if the CPU is known.
    pub fn class() -> Option<Class> {
        let version = __cpuid(1).eax;
        let (base, extended) = (version >> 8 & 0xf, version >> 20 & 0xff);
        let family = if base == 0xf { base + extended } else { base };
        let has_fp16 = __get_cpuid_max(0).0 >= 7 && __cpuid_count(7, 0).edx >> 23 & 1 == 1;
        class_of(&vendor(), family, version >> 12 & 0xf0 | version >> 4 & 0xf, has_fp16)
    }

    /// Virtual machines may show a model that no core has. AVX-512 with FP16 came with Sapphire Rapids.
    pub(super) fn class_of(vendor: &[u8; 12], family: u32, model: u32, has_fp16: bool) -> Option<Class> {
        let class = match (vendor, family, model) {
            (AMD, 23, 0x30..) => Class::Zen2,
            (AMD, 25, 0x10..=0x1f | 0x60..) => Class::Zen4,
            (AMD, 25, _) => Class::Zen3,
            (AMD, 26, _) => Class::Zen5,
            (INTEL, 6, 0x55) => Class::SkylakeAvx512,
            (INTEL, 6, 0x6a | 0x6c) => Class::Icelake,
            (INTEL, 6, 0x8f) => Class::SapphireRapids,
            (INTEL, 6, 0xcf | 0xad | 0xae) => Class::EmeraldRapids,
            (INTEL, 6, _) if has_fp16 => Class::EmeraldRapids,
            (INTEL, 6, 0x3c | 0x3f | 0x45 | 0x46 | 0x3d | 0x47 | 0x4f | 0x56) => Class::Haswell,
            (INTEL, 6, 0x4e | 0x5e | 0x8e | 0x9e | 0xa5 | 0xa6) => Class::Haswell,
            _ => return None,
        };
        Some(class)
    }

    /// Bytes of L1d, L2 and L3; none if the CPU names no L1d or L2. Without an L3, the L2 counts as that too.
    pub fn caches() -> Option<[usize; 3]> {
        // Both leaves have the same form; AMD's is there where bit 22 of the extended features says so.
        let leaf = if &vendor() == AMD { 0x8000_001d } else { 4 };
        let (most, _) = __get_cpuid_max(leaf & 0x8000_0000);
        if most < leaf || (leaf != 4 && __cpuid(0x8000_0001).ecx >> 22 & 1 == 0) {
            return None;
        }
        let mut caches = [0; 3];
        for index in 0..16 {
            let cache = __cpuid_count(leaf, index);
            let (kind, level) = (cache.eax & 0x1f, cache.eax >> 5 & 7);
            if kind == 0 {
                break;
            }
            let field = |shift: u32, bits: u32| (cache.ebx >> shift & ((1 << bits) - 1)) as usize + 1;
            let bytes = field(0, 12) * field(12, 10) * field(22, 10) * (cache.ecx as usize).saturating_add(1);
            // Data and unified caches.
            let place = caches.get_mut(level.wrapping_sub(1) as usize).filter(|_| kind == 1 || kind == 3);
            if let Some(place) = place {
                *place = bytes;
            }
        }
        let [l1, l2, l3] = caches;
        (l1 > 0 && l2 > 0).then_some([l1, l2, l3.max(l2)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_wrong_ones_refused() {
        for class in Class::ALL {
            assert_eq!(class.name().parse(), Ok(class));
        }
        let error = "zen9".parse::<Class>().unwrap_err().to_string();
        assert!(error.starts_with("machine: got `zen9`, expected one of zen2, zen3, zen4,"), "{error}");
        assert!(error.ends_with("; correct or unset RELC_MACHINE"), "{error}");
    }

    #[test]
    fn nearer_levels_are_smaller_and_faster() {
        for class in Class::ALL {
            for isa in Isa::ALL {
                let machine = Machine::of(class, isa);
                assert!(machine.caches.is_sorted() && machine.caches[0] >= 32 << 10, "{machine}");
                let rates = Level::ALL.map(|level| machine.bytes(level));
                assert!(rates.is_sorted_by(|near, far| near > far), "{machine}: {rates:?}");
                assert!(machine.clock() > 1e9 && machine.multiply_adds() >= 4.0, "{machine}");
                let levels = [1, machine.caches[0], machine.caches[1], usize::MAX];
                assert_eq!(machine.level_of(levels[0]), Level::L1);
                assert_eq!(machine.level_of(levels[3]), Level::Memory);
                assert!(levels.map(|bytes| machine.level_of(bytes)).is_sorted(), "{machine}");
            }
        }
    }

    /// Figures of CPUs in use, as `lscpu` prints them.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn cpus_are_known_by_family_and_model() {
        let class = |vendor, family, model| cpuid::class_of(vendor, family, model, false);
        assert_eq!(class(b"AuthenticAMD", 23, 49), Some(Class::Zen2));
        assert_eq!(class(b"AuthenticAMD", 25, 1), Some(Class::Zen3));
        assert_eq!(class(b"AuthenticAMD", 25, 17), Some(Class::Zen4));
        assert_eq!(class(b"AuthenticAMD", 26, 2), Some(Class::Zen5));
        assert_eq!(class(b"GenuineIntel", 6, 85), Some(Class::SkylakeAvx512));
        assert_eq!(class(b"GenuineIntel", 6, 143), Some(Class::SapphireRapids));
        assert_eq!(class(b"GenuineIntel", 6, 207), Some(Class::EmeraldRapids));
        assert_eq!(class(b"GenuineIntel", 6, 167), None);
        assert_eq!(cpuid::class_of(b"GenuineIntel", 6, 167, true), Some(Class::EmeraldRapids));
        assert_eq!(class(b"HygonGenuine", 24, 1), None);
    }

    #[test]
    fn this_machine_is_always_the_same() {
        let machine = Machine::host(Isa::best());
        assert_eq!(machine, Machine::host(Isa::best()));
        // What runs an instruction set is no class of one that lacks it.
        assert!(machine.multiply_adds() >= Machine::host(Isa::Portable).multiply_adds());
    }
}
