// Write the TensorFlow.js files of `tests/porting/files/tfjs`.
//
// Needs node and @tensorflow/tfjs@4.22.0 (`npm install @tensorflow/tfjs@4.22.0` in any folder).
// Run in that folder: `node /path/to/tests/porting/make/with_tfjs.mjs` (it imports from the folder that it is run in).
// Beside each model lies `expected.json`: the weights as TensorFlow.js itself decodes them.
import { createRequire } from "node:module";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const require = createRequire(path.join(process.cwd(), "x.js"));
const tf = require("@tensorflow/tfjs");
const OUT = path.join(path.dirname(fileURLToPath(import.meta.url)), "..", "files", "tfjs");

async function write(folder, topology, specs, data, cuts) {
  const out = path.join(OUT, folder);
  fs.mkdirSync(out, { recursive: true });
  const bytes = new Uint8Array(data);
  const bounds = [0, ...cuts, bytes.length];
  const paths = [];
  for (let k = 0; k + 1 < bounds.length; k++) {
    paths.push(`group1-shard${k + 1}of${bounds.length - 1}.bin`);
    fs.writeFileSync(path.join(out, paths[k]), bytes.slice(bounds[k], bounds[k + 1]));
  }
  const manifest = [{ paths, weights: specs }];
  const json = { format: "layers-model", generatedBy: "TensorFlow.js", modelTopology: topology, weightsManifest: manifest };
  fs.writeFileSync(path.join(out, "model.json"), JSON.stringify(json));
  const decoded = tf.io.decodeWeights(data, specs);
  const expected = {};
  for (const [name, tensor] of Object.entries(decoded)) {
    expected[name] = { shape: tensor.shape, values: Array.from(tensor.dataSync()) };
  }
  fs.writeFileSync(path.join(out, "expected.json"), JSON.stringify(expected));
}

async function layers() {
  const model = tf.sequential({
    name: "net",
    layers: [
      tf.layers.conv2d({ inputShape: [6, 6, 2], filters: 4, kernelSize: 3, padding: "same", name: "conv" }),
      tf.layers.batchNormalization({ epsilon: 0.002, name: "norm" }),
      tf.layers.depthwiseConv2d({ kernelSize: 3, depthMultiplier: 2, name: "depth" }),
      tf.layers.flatten(),
      tf.layers.dense({ units: 1, name: "head" }),
    ],
  });
  let saved;
  await model.save(tf.io.withSaveHandler(async (artifacts) => {
    saved = artifacts;
    return { modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: "JSON" } };
  }));
  const data = tf.io.CompositeArrayBuffer ? tf.io.CompositeArrayBuffer.join(saved.weightData) : saved.weightData;
  await write("layers", saved.modelTopology, saved.weightSpecs, data, [101, 700]); // in the midst of a number
}

async function quantised() {
  const specs = [];
  const parts = [];
  const add = (name, shape, array, quantization, dtype = "float32") => {
    specs.push({ name, shape, dtype, ...(quantization ? { quantization } : {}) });
    parts.push(Buffer.from(array.buffer));
  };
  add("conv/kernel", [2, 3], Uint8Array.from([0, 1, 2, 127, 128, 255]), { min: -1.2345678, scale: 0.0123456789, dtype: "uint8" });
  add("conv/bias", [3], Uint16Array.from([0, 777, 65535]), { min: -3.3, scale: 0.000123, dtype: "uint16" });
  add("half/kernel", [2, 2], Uint16Array.from([0x3c00, 0xc000, 0x3555, 0x0001]), { dtype: "float16" });
  add("steps", [2], Uint8Array.from([3, 200]), { min: -10, scale: 1.7, dtype: "uint8" }, "int32");
  add("flags", [3], Uint8Array.from([0, 1, 1]), undefined, "bool");
  add("whole", [2], Int32Array.from([-5, 7]), undefined, "int32");
  add("plain", [], Float32Array.from([0.1]), undefined);
  const joined = Buffer.concat(parts);
  await write("quantised", null, specs, joined.buffer.slice(joined.byteOffset, joined.byteOffset + joined.length), []);
}

fs.rmSync(OUT, { recursive: true, force: true });
await layers();
await quantised();
