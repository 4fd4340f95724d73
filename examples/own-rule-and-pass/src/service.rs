//! A service: requests go into a channel, threads take them out and explain them by one explainer.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use relc::ndarray::{ArrayD, Axis};
use relc::preprocess::{Preprocess, load_picture};
use relc::{Explainer, Seed, Targets};

/// What a request is answered with.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The picture.
    pub picture: PathBuf,
    /// The largest output.
    pub class: usize,
    /// Its probability.
    pub probability: f64,
    /// By how much relevance was not conserved.
    pub conservation_error: f64,
    /// The relevance of the input, `f32[1,C,H,W]` or `f32[1,H,W,C]` as the model has it.
    pub relevance: ArrayD<f32>,
}

struct Request {
    picture: PathBuf,
    reply: Sender<Result<Answer, String>>,
}

/// Threads over one explainer. When it is dropped, the requests that it has are answered, and the threads end.
pub struct Service {
    requests: Option<Sender<Request>>,
    threads: Vec<JoinHandle<()>>,
}

impl Service {
    /// Starts so many threads.
    pub fn start(explainer: Explainer, preprocess: Preprocess, threads: usize) -> Service {
        let (requests, queue) = channel();
        let shared = Arc::new((Mutex::new(queue), explainer, preprocess));
        let start = |_| {
            let shared = shared.clone();
            std::thread::spawn(move || {
                let (queue, explainer, preprocess) = &*shared;
                serve(queue, explainer, preprocess);
            })
        };
        Service { requests: Some(requests), threads: (0..threads).map(start).collect() }
    }

    /// Asks for the explanation of a picture; the answer comes out of the channel that is returned.
    pub fn explain(&self, picture: impl Into<PathBuf>) -> Receiver<Result<Answer, String>> {
        let (reply, answer) = channel();
        if let Some(requests) = &self.requests {
            // Without threads there is no answer, which the receiver sees.
            let _ = requests.send(Request { picture: picture.into(), reply });
        }
        answer
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.requests = None; // the queue ends
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve(queue: &Mutex<Receiver<Request>>, explainer: &Explainer, preprocess: &Preprocess) {
    loop {
        // The lock is held while waiting, not while explaining.
        let request = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Request { picture, reply }) = request else { return };
        let answer = explain(explainer, preprocess, picture).map_err(|error| error.to_string());
        let _ = reply.send(answer); // whoever asked may be gone
    }
}

/// Explains the largest output for a picture.
fn explain(
    explainer: &Explainer,
    preprocess: &Preprocess,
    picture: PathBuf,
) -> Result<Answer, Box<dyn std::error::Error>> {
    let prepared = preprocess.prepare(&load_picture(&picture)?, explainer)?;
    let input = prepared.values.insert_axis(Axis(0)).into_dyn();
    let seed = Seed::Named(explainer.preset().seed);
    let mut result = explainer.explain(input.view(), &seed, &Targets::Argmax)?;
    let explanation = result.explanations.pop().ok_or("there is no explanation")?;
    let class = *explanation.targets.first().ok_or("there is no target")?;
    Ok(Answer {
        picture,
        class,
        probability: result.probabilities.get((0, class)).copied().unwrap_or(f64::NAN),
        conservation_error: explanation.conservation_error(0),
        relevance: explanation.relevance,
    })
}
