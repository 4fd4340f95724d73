// relc in a page: see ../src/lib.rs for what the module takes and gives.

const find = (id) => document.getElementById(id);
const fetched = async (path) => {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${response.statusText}`);
  return response;
};

/** Calls the module with bytes, and gives what it leaves, or throws its message. */
function call(relc, name, bytes, ...rest) {
  const at = relc.hand_in(bytes.length);
  new Uint8Array(relc.memory.buffer, at, bytes.length).set(bytes);
  const fine = relc[name](...rest);
  // A memory that grew meanwhile has a buffer of its own.
  const answer = new Uint8Array(relc.memory.buffer, relc.result(), relc.result_len()).slice();
  if (!fine) throw new Error(new TextDecoder().decode(answer));
  return answer;
}

/** What the network takes, f32[C,H,W] as bytes, of a picture that is drawn in its size. */
function prepared(pixels, [channels, height, width], { scale, mean, std }) {
  const values = new Float32Array(channels * height * width);
  for (let c = 0; c < channels; c++)
    for (let i = 0; i < height * width; i++)
      values[c * height * width + i] = (pixels[4 * i + c] * scale - mean[c]) / std[c];
  return new Uint8Array(values.buffer);
}

/** Red for relevance, blue against, white for none; by the largest magnitude. */
function drawMap(canvas, map, height, width) {
  [canvas.height, canvas.width] = [height, width];
  const most = map.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
  const image = new ImageData(width, height);
  map.forEach((value, i) => {
    const part = Math.abs(value) / most;
    const fade = (full) => 255 - (255 - full) * part;
    const [r, g, b] = value > 0 ? [192, 20, 60] : [47, 111, 208];
    image.data.set([fade(r), fade(g), fade(b), 255], 4 * i);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

async function start() {
  const demo = await (await fetched("demo.json")).json();
  const source = await WebAssembly.instantiateStreaming(fetched("relc_web.wasm"), {});
  const relc = source.instance.exports;
  const before = performance.now();
  const model = new Uint8Array(await (await fetched(demo.model)).arrayBuffer());
  const sizes = new TextDecoder().decode(call(relc, "compile", model)).split(",").map(Number);
  const [, channels, height, width] = sizes;
  const compiled = performance.now() - before;
  const canvas = find("picture");
  [canvas.height, canvas.width] = [height, width];
  demo.labels.forEach((label, i) => find("target").add(new Option(label, i)));
  find("target").add(new Option("the likeliest", -1, true, true), 0);

  let shown = null;
  const explain = () => {
    if (!shown) return;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(shown, 0, 0, width, height);
    const { data } = context.getImageData(0, 0, width, height);
    const input = prepared(data, [channels, height, width], demo.preprocess);
    const before = performance.now();
    const numbers = new Float32Array(call(relc, "explain", input, find("target").value).buffer);
    const took = performance.now() - before;
    const [target, logit, sum, outputs] = numbers;
    const map = numbers.slice(4 + outputs);
    drawMap(find("map"), map, height, width);
    const label = demo.labels[target] ?? `output ${target}`;
    find("sums").textContent =
      `${label}: logit ${logit.toFixed(4)}, relevance of all pixels ${sum.toFixed(4)}; explained in ${took.toFixed(0)} ms.`;
    find("state").textContent = `Compiled in ${compiled.toFixed(0)} ms.`;
    window.explained = { label, logit, sum, map: Array.from(map) };
  };
  const show = async (url, button) => {
    const image = new Image();
    image.src = url;
    await image.decode();
    shown = image;
    for (const other of find("pictures").children) other.setAttribute("aria-pressed", other === button);
    explain();
  };
  const failing = (work) => Promise.resolve(work).catch(fail);
  for (const name of demo.pictures) {
    const button = document.createElement("button");
    button.type = "button";
    const image = new Image();
    [image.src, image.alt] = [name, name.replace(/^.*\/|\.\w+$/g, "")];
    button.append(image);
    button.addEventListener("click", () => failing(show(name, button)));
    find("pictures").append(button);
  }
  find("own").addEventListener("change", ({ target }) => {
    if (target.files.length) failing(show(URL.createObjectURL(target.files[0]), null));
  });
  find("target").addEventListener("change", () => {
    try {
      explain();
    } catch (error) {
      fail(error);
    }
  });
  await show(demo.pictures[0], find("pictures").children[0]);
}

function fail(error) {
  find("state").textContent = `It did not work: ${error.message}`;
}

start().catch(fail);
