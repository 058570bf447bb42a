/** Posts all that goes through it, with the number of its first frame: what the graph did. */
class Tap extends AudioWorkletProcessor {
  process(inputs) {
    const input = inputs[0][0];
    if (input) {
      const samples = input.slice();
      this.port.postMessage({ frame: currentFrame, samples }, [samples.buffer]);
    }
    return true;
  }
}

registerProcessor("tap", Tap);
