//! Models that leave their picture's height and width (or a signal's length) open: one explainer serves several sizes.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use relc_ir::Dim;

use crate::compiler::Compiler;
use crate::error::{CompileError, ExplainError};
use crate::explainer::Explainer;
use crate::source::Source;

/// The most sizes whose programs are kept; the one that was used longest ago goes first.
const KEPT: usize = 4;

/// Height and width of a picture whose size nothing says: those of ImageNet's classifiers.
pub(crate) const USUAL: usize = 224;

/// An explainer, once it is compiled.
type Place = Arc<Mutex<Option<Explainer>>>;

/// What the model leaves open, and the programs for other sizes than the first.
#[derive(Debug)]
pub(crate) struct OpenSizes {
    compiler: Compiler,
    model: Source,
    /// For each dimension of the input, the size that the model fixes.
    fixed: Vec<Option<usize>>,
    /// The one that was used last comes last.
    programs: Mutex<Vec<(Vec<usize>, Place)>>,
}

impl OpenSizes {
    pub fn new(compiler: &Compiler, model: Source, fixed: Vec<Option<usize>>) -> Arc<Self> {
        let programs = Mutex::new(Vec::new());
        Arc::new(OpenSizes { compiler: compiler.clone(), model, fixed, programs })
    }

    /// Whether a sample of these sizes is one that the model takes.
    fn takes(&self, sample: &[usize]) -> bool {
        let fixed = self.fixed.get(1..).unwrap_or_default();
        let fits = |(fixed, size): (&Option<usize>, &usize)| *size > 0 && fixed.is_none_or(|f| f == *size);
        sample.len() == fixed.len() && fixed.iter().zip(sample).all(fits)
    }

    /// The explainer for a sample of these sizes. Who asks for one that is being compiled waits for it; others do not.
    fn program(&self, sample: &[usize]) -> Result<Explainer, CompileError> {
        let place = self.place(sample);
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(explainer) = &*place {
            return Ok(explainer.clone());
        }
        let dims = std::iter::once(Dim::Batch).chain(sample.iter().copied().map(Dim::Fixed));
        let explainer = self.compiler.clone().input_shape(dims.collect()).compile(self.model.clone())?;
        Ok(place.insert(explainer).clone())
    }

    /// Where the explainer for these sizes is kept; it counts as the last that was used.
    fn place(&self, sample: &[usize]) -> Place {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let found = programs.iter().position(|(size, _)| size == sample).map(|i| programs.remove(i).1);
        let place = found.unwrap_or_default();
        programs.push((sample.to_vec(), place.clone()));
        if programs.len() > KEPT {
            programs.remove(0);
        }
        place
    }
}

/// The shape that an input is taken to have whose sizes are open but for `fixed`: that of the first sample that fits; if
/// there is none, and height and width of a picture are open, the usual ones.
pub(crate) fn assumed(fixed: &[Option<usize>], samples: &[Vec<usize>]) -> Option<Vec<Dim>> {
    match samples {
        [] => assumed_of(fixed, None),
        several => several.iter().find_map(|sample| assumed_of(fixed, Some(sample))),
    }
}

fn assumed_of(fixed: &[Option<usize>], sample: Option<&[usize]>) -> Option<Vec<Dim>> {
    let open: Vec<usize> = (1..fixed.len()).filter(|i| fixed.get(*i) == Some(&None)).collect();
    let is_picture = fixed.len() == 4 && (open == [2, 3] || open == [1, 2]);
    let size = |i: usize| match (fixed.get(i).copied().flatten(), sample) {
        (Some(size), _) => Some(size),
        (None, Some(sample)) if sample.len() == fixed.len() => sample.get(i).copied(),
        (None, Some(sample)) if sample.len() + 1 == fixed.len() => sample.get(i - 1).copied(),
        // Height and width alone, for either layout.
        (None, Some([height, width])) if is_picture => Some(if i == open[0] { *height } else { *width }),
        (None, None) if is_picture => Some(USUAL),
        _ => None,
    };
    let sizes: Option<Vec<usize>> = (1..fixed.len()).map(size).collect();
    Some(std::iter::once(Dim::Batch).chain(sizes?.into_iter().map(Dim::Fixed)).collect())
}

impl Explainer {
    /// The explainer for inputs of this shape, the batch first: itself, or, where the model leaves sizes open, one that is
    /// compiled for the shape when it is first asked for. A few are kept.
    ///
    /// # Errors
    /// If the model can't be compiled for that size.
    pub fn for_shape(&self, shape: &[usize]) -> Result<Cow<'_, Explainer>, ExplainError> {
        let sample = shape.get(1..).unwrap_or_default();
        let own = self.input()?.1.bind(1);
        match &self.sizes {
            Some(sizes) if own.get(1..) != Some(sample) && sizes.takes(sample) => {
                let failed = |e| ExplainError::Size { shape: shape.to_vec(), source: Box::new(e) };
                Ok(Cow::Owned(sizes.program(sample).map_err(failed)?.with_options_of(self)))
            }
            _ => Ok(Cow::Borrowed(self)),
        }
    }

    /// Whether inputs of this shape, the batch first, are explained: with open sizes, of more than one shape.
    pub fn takes(&self, shape: &[usize]) -> bool {
        let sample = shape.get(1..).unwrap_or_default();
        let own =
            self.input().is_ok_and(|(_, ty)| ty.rank() == shape.len() && ty.bind(1).get(1..) == Some(sample));
        own || self.sizes.as_ref().is_some_and(|sizes| sizes.takes(sample))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_sizes_are_assumed() {
        let show = |fixed: &[Option<usize>], sample: Option<&[usize]>| {
            assumed(fixed, &sample.map(<[usize]>::to_vec).into_iter().collect::<Vec<_>>())
                .map(|dims| dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
        };
        let picture = [None, Some(3), None, None];
        assert_eq!(show(&picture, None).as_deref(), Some("N,3,224,224"));
        assert_eq!(show(&picture, Some(&[32, 48])).as_deref(), Some("N,3,32,48"));
        assert_eq!(show(&picture, Some(&[3, 20, 24])).as_deref(), Some("N,3,20,24"));
        assert_eq!(show(&picture, Some(&[7, 3, 20, 24])).as_deref(), Some("N,3,20,24"));
        assert_eq!(show(&[None, None, None, Some(3)], Some(&[32, 48])).as_deref(), Some("N,32,48,3"));
        assert_eq!(show(&[None, Some(2), None], Some(&[2, 100])).as_deref(), Some("N,2,100"));
        let clip = [vec![32, 48], vec![3, 9, 32, 48]];
        let assumed = assumed(&[None, Some(1), None, None, None], &clip).unwrap();
        assert_eq!(assumed[1..], [1, 9, 32, 48].map(Dim::Fixed));
        assert_eq!(show(&[None, Some(2), None], None), None);
        assert_eq!(show(&[None, None, None, None], None), None);
    }
}
