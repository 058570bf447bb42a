// @ts-check
/**
 * The way of the server's audio: one player for each connection, because positions start again
 * with each; what an old one still has is spoken to its end.
 *
 * @typedef {object} SpeakerOwner
 * @property {(level: number, seconds: number) => void} onLevel Sound is about to be heard.
 * @property {(samples: number) => void} onHeard How far the connection's audio has been heard.
 * @property {(latency: number) => void} onFirstSound The first sound of a reply is made; it is
 *   heard so many seconds later.
 */

import { outputLatency } from "./audio-context.js";
import { Player } from "./player.js";

export class Speaker {
  /** RMS of what is heard now, 0 to 1. */
  level = 0;

  #context;
  #owner;
  #volume;
  #rate = 0;
  /** @type {Player | null} */
  #player = null;
  #playing = false;
  /** @type {Set<Player>} */
  #leaving = new Set();
  #lostBefore = 0;

  /** @param {AudioContext} context @param {number} volume 0 to 1 @param {SpeakerOwner} owner */
  constructor(context, volume, owner) {
    this.#context = context;
    this.#volume = volume;
    this.#owner = owner;
  }

  /**
   * Begin with a connection's audio.
   *
   * @param {number} rate In hertz. @param {AbortSignal} signal
   */
  async open(rate, signal) {
    this.disconnect();
    const player = new Player({
      context: this.#context,
      volume: this.#volume,
      onLevel: this.#owner.onLevel,
      onProgress: (progress) => this.#progress(player, progress),
    });
    this.#player = player;
    this.#playing = false;
    this.#rate = rate;
    await player.open(rate, signal);
  }

  /** @param {number} fromSample Position of the reply that comes. */
  begin(fromSample) {
    this.#player?.begin(fromSample);
  }

  /** @param {ArrayBuffer} pcm */
  push(pcm) {
    this.#player?.push(pcm);
  }

  /**
   * Fall silent; `onHeard` is told where, before this is done.
   *
   * @param {number} atSample Position of the next sample.
   */
  async clear(atSample) {
    this.dropLeaving();
    await this.#player?.clear(atSample);
  }

  /** Whether something is played, or about to be, of a connection that is gone. */
  get leaving() {
    return this.#leaving.size > 0;
  }

  /** Fall silent with what is left of connections that are gone: nobody else will say so. */
  dropLeaving() {
    for (const player of this.#leaving) this.#leave(player);
  }

  /** The connection is gone; so is what decided over its audio. */
  disconnect() {
    const player = this.#player;
    this.#player = null;
    if (!player) return;
    if (this.#playing || player.stats.queued > 0) this.#leaving.add(player);
    else this.#leave(player);
  }

  /** @param {number} volume 0 to 1. */
  set volume(volume) {
    this.#volume = volume;
    for (const player of [this.#player, ...this.#leaving]) if (player) player.volume = volume;
  }

  /** Frames of 20 ms that were received and neither played nor cleared, as far as is known. */
  get lostFrames() {
    return this.#lostBefore + this.#lost(this.#player);
  }

  close() {
    for (const player of [this.#player, ...this.#leaving]) player?.close();
    this.#leaving.clear();
    this.level = 0;
  }

  /** @param {Player} player @param {import("./player.js").Progress} progress */
  #progress(player, { heard, playing, level, firstSound }) {
    this.level = playing ? level : 0;
    if (player !== this.#player) {
      if (!playing) this.#leave(player);
      return;
    }
    this.#playing = playing;
    this.#owner.onHeard(heard);
    if (firstSound) this.#owner.onFirstSound(outputLatency(this.#context));
  }

  /** @param {Player} player */
  #leave(player) {
    this.#leaving.delete(player);
    this.#lostBefore += this.#lost(player);
    player.close();
  }

  /** @param {Player | null} player */
  #lost(player) {
    return Math.ceil((player?.stats.lost ?? 0) / ((this.#rate || 24_000) / 50));
  }
}
