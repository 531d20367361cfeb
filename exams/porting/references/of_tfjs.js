// Unpacks a TF.js model from its scripts, and writes what TF.js makes of a random image: node of_tfjs.js SCRIPTS OUT
const fs = require("fs");
const path = require("path");
const tf = require(path.resolve("node_modules/@tensorflow/tfjs"));

const [scripts, out] = process.argv.slice(2);
const model = require(path.resolve(scripts, "model.min.js"));
const shard = Buffer.from(require(path.resolve(scripts, "group1-shard1of1.min.js")), "base64");
fs.mkdirSync(out, { recursive: true });
fs.writeFileSync(path.join(out, "model.json"), JSON.stringify(model));
fs.writeFileSync(path.join(out, model.weightsManifest[0].paths[0]), shard);

(async () => {
  await tf.setBackend("cpu");
  const bytes = shard.buffer.slice(shard.byteOffset, shard.byteOffset + shard.length);
  const artifacts = {
    modelTopology: model.modelTopology,
    weightSpecs: model.weightsManifest[0].weights,
    weightData: bytes,
  };
  const network = await tf.loadLayersModel(tf.io.fromMemory(artifacts));
  const image = tf.randomUniform([1, 224, 224, 3], 0, 1, "float32", 1);
  const result = network.predict(image);
  fs.writeFileSync(path.join(out, "input.bin"), Buffer.from(image.dataSync().buffer));
  fs.writeFileSync(path.join(out, "output.bin"), Buffer.from(result.dataSync().buffer));
})();
