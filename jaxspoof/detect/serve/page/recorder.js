// In the thread of the sound: passes on what the microphone gives.
class Recorder extends AudioWorkletProcessor {
  process([input]) {
    if (input.length) this.port.postMessage(input[0].slice());
    return true;
  }
}
registerProcessor('recorder', Recorder);
