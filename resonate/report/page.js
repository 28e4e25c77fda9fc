"use strict";
// Two sounds run at a time, A and B. One is heard, the other runs along muted and is kept in step by its speed, so that
// a change between them is immediate and keeps the place. Any other sound takes the place of the one that is heard: it
// starts muted and is heard once it is in step; until then the former one plays on.
(function () {
  const NEAR = 0.02, FAR = 0.25; // s: in step; too far away to be caught up with
  const STEADY = 3; // readings one after the other, as a single one may be off
  const all = (query) => Array.from(document.querySelectorAll(query));
  const byId = (id) => document.getElementById(id);
  const tracks = all("audio.track"), slots = all(".slot"), choices = all(".choice");
  const heads = all(".head"), spans = all(".span"), screens = all(".screen");
  const play = byId("play"), seek = byId("seek"), clock = byId("clock"), says = byId("says");
  const parts = JSON.parse(byId("stretches").textContent); // [[start, seconds], ...] of the recording
  const total = parts.reduce((sum, part) => sum + part[1], 0), whole = Number(seek.dataset.whole);
  const pair = slots.map((slot) => Number(slot.dataset.track));
  const ahead = tracks.map(() => 0.05); // s that a sound loses while it starts, as far as is known
  const moved = tracks.map(() => 0); // when it was moved last
  const steady = tracks.map(() => 0); // how many readings in a row were in step
  let slot = 0, heard = pair[0], playing = false, dragging = false;
  let loop = null, begun = null, looping = false; // [from, to] in the previews; a beginning without an end

  // From the position in the previews to the time in the recording, and back (to the nearest that is previewed).
  function outside(t) {
    for (const part of parts) {
      if (t <= part[1]) return part[0] + t;
      t -= part[1];
    }
    const last = parts[parts.length - 1];
    return last[0] + last[1];
  }
  function inside(time) {
    let before = 0, best = 0, distance = Infinity;
    for (const part of parts) {
      const t = Math.min(Math.max(time, part[0]), part[0] + part[1]);
      if (Math.abs(t - time) < distance) { distance = Math.abs(t - time); best = before + t - part[0]; }
      before += part[1];
    }
    return best;
  }
  function words(t) {
    const s = Math.floor(t), two = (n) => String(n).padStart(2, "0");
    return whole >= 3600 ? Math.floor(s / 3600) + ":" + two(Math.floor(s / 60) % 60) + ":" + two(s % 60)
      : Math.floor(s / 60) + ":" + two(s % 60);
  }
  function failed(error) {
    if (error && error.name === "AbortError") return; // a change of mind, no fault
    says.textContent = "This browser cannot play the preview; the WAV files beside this page are complete.";
  }
  function place(t) { return Math.min(Math.max(t, 0), Math.max(0, total - 0.01)); }
  const position = () => tracks[heard].currentTime;

  function go(t) {
    new Set([heard, ...pair]).forEach((n) => { tracks[n].currentTime = place(t); moved[n] = performance.now(); });
    show();
  }
  // Brings a muted sound nearer to the one that is heard; true once it is in step.
  function follow(n) {
    const track = tracks[n], apart = track.currentTime - position();
    track.muted = true;
    steady[n] = Math.abs(apart) < NEAR && !track.paused && !track.seeking ? steady[n] + 1 : 0;
    if (track.paused) {
      track.playbackRate = 1;
      track.currentTime = place(position() + ahead[n]);
      moved[n] = performance.now();
      track.play().catch(failed);
      return false;
    }
    if (track.seeking || track.readyState < 3) return false;
    if (Math.abs(apart) > FAR) {
      if (performance.now() - moved[n] < 400) return false;
      ahead[n] = Math.min(Math.max(ahead[n] - apart, 0), 1);
      track.currentTime = place(position() + ahead[n]);
      moved[n] = performance.now();
      return false;
    }
    track.playbackRate = Math.abs(apart) < 0.004 ? 1 : 1 - Math.min(Math.max(3 * apart, -0.3), 0.3);
    return steady[n] >= STEADY;
  }
  // Hands over to the sound that was asked for; the others that run are kept in step, the rest is stopped.
  function settle() {
    const wanted = pair[slot];
    if (!playing) {
      if (heard !== wanted) {
        tracks[wanted].currentTime = position();
        heard = wanted;
      }
    } else {
      for (const n of new Set(pair)) {
        if (n === heard) continue;
        if (follow(n) && n === wanted) {
          tracks[n].playbackRate = 1;
          tracks[n].muted = false;
          tracks[heard].muted = true;
          heard = n;
        }
      }
    }
    tracks.forEach((track, n) => {
      if (n === heard) {
        track.muted = false;
        if (track.playbackRate !== 1) track.playbackRate = 1;
      } else if (!track.paused && (!playing || !pair.includes(n))) track.pause();
    });
  }
  function show() {
    const t = dragging ? Number(seek.value) : position(), wanted = pair[slot];
    if (!dragging) seek.value = String(t);
    clock.textContent = words(outside(t)) + " / " + words(whole);
    heads.forEach((head) => { head.style.left = (100 * Math.min(1, outside(t) / whole)) + "%"; });
    play.textContent = playing ? "Pause" : "Play";
    slots.forEach((button, n) => {
      button.setAttribute("aria-checked", String(n === slot));
      button.setAttribute("aria-busy", String(n === slot && playing && heard !== wanted));
      button.querySelector("span").textContent = choices[pair[n]].querySelector("span").textContent;
    });
    choices.forEach((button, n) => button.setAttribute("aria-pressed", String(pair.includes(n))));
  }
  function choose(n) {
    slot = n;
    says.textContent = choices[pair[slot]].dataset.says;
    settle();
    show();
  }
  function hear(n) {
    if (pair.includes(n)) choose(pair.indexOf(n));
    else { pair[slot] = n; choose(slot); }
  }
  function toggle() {
    playing = !playing;
    if (playing) {
      if (position() >= total - 0.02) go(looping ? loop[0] : 0);
      tracks[heard].muted = false;
      tracks[heard].play().catch((error) => { playing = false; failed(error); settle(); show(); });
    } else tracks.forEach((track) => track.pause());
    settle();
    show();
  }
  function setLoop(from, to) {
    loop = to - from >= 0.2 ? [from, to] : null;
    begun = null;
    looping = loop !== null;
    if (looping && (position() < from || position() > to)) go(from);
    showLoop();
  }
  function showLoop() {
    byId("loop").disabled = loop === null;
    byId("loop").setAttribute("aria-pressed", String(looping));
    byId("stretch").textContent = loop ? words(outside(loop[0])) + " to " + words(outside(loop[1]))
      : begun === null ? "" : "from " + words(outside(begun));
    spans.forEach((span) => {
      span.hidden = !looping;
      if (!looping) return;
      span.style.left = (100 * outside(loop[0]) / whole) + "%";
      span.style.width = (100 * (outside(loop[1]) - outside(loop[0])) / whole) + "%";
    });
  }
  function from() { begun = position(); loop = null; looping = false; showLoop(); }
  function to() {
    const first = begun === null ? 0 : begun;
    setLoop(Math.min(first, position()), Math.max(first, position()));
  }
  function onOff() { if (loop) { looping = !looping; if (looping) go(loop[0]); showLoop(); } }
  function tick() {
    if (playing) {
      if (looping && position() >= loop[1]) go(loop[0]);
      settle();
    }
    show();
  }

  play.addEventListener("click", toggle);
  slots.forEach((button, n) => button.addEventListener("click", () => choose(n)));
  choices.forEach((button, n) => button.addEventListener("click", () => hear(n)));
  seek.addEventListener("input", () => { dragging = true; show(); });
  seek.addEventListener("change", () => { dragging = false; go(Number(seek.value)); });
  byId("from").addEventListener("click", from);
  byId("to").addEventListener("click", to);
  byId("loop").addEventListener("click", onOff);
  all(".jump").forEach((button) => button.addEventListener("click", () => go(inside(Number(button.dataset.time)))));
  screens.forEach((screen) => {
    let pressed = null;
    const at = (event) => {
      const box = screen.getBoundingClientRect();
      return inside(whole * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
    };
    screen.addEventListener("pointerdown", (event) => {
      pressed = { x: event.clientX, t: at(event) };
      if (screen.setPointerCapture) screen.setPointerCapture(event.pointerId);
    });
    screen.addEventListener("pointerup", (event) => {
      if (pressed === null) return;
      const t = at(event), far = Math.abs(event.clientX - pressed.x) > 8;
      if (far) setLoop(Math.min(pressed.t, t), Math.max(pressed.t, t)); else go(t);
      pressed = null;
    });
    screen.addEventListener("pointercancel", () => { pressed = null; }); // the page was scrolled
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    // What the slider and the links need themselves stays theirs; all other keys go on to mean what the page says.
    if (event.target.closest("input") && /^(arrow|home|end|page)/.test(key)) return;
    if (event.target.closest("summary, a") && (key === "enter" || key === " ")) return;
    const digit = "1234567890".indexOf(key);
    const act = {
      " ": toggle, a: () => choose(0), b: () => choose(1), x: () => choose(1 - slot), i: from, o: to, l: onOff,
      arrowleft: () => go(position() - 2), arrowright: () => go(position() + 2),
    }[key];
    if (act) { event.preventDefault(); act(); }
    else if (digit >= 0 && digit < choices.length) hear(digit);
  });
  // Where a button has the focus, some browsers press it when the space bar comes up.
  document.addEventListener("keyup", (event) => { if (event.key === " " && event.target.closest("button")) event.preventDefault(); });
  tracks.forEach((track, n) => {
    track.addEventListener("error", () => { if (n === heard || pair.includes(n)) failed(track.error); });
    track.addEventListener("ended", () => {
      if (n !== heard || !playing) return;
      if (looping) { go(loop[0]); track.play().catch(failed); return; }
      playing = false;
      settle();
      show();
    });
  });
  // A timer beside the frames: these stop while the page is not seen, and the sounds must stay in step.
  setInterval(tick, 50);
  (function frame() {
    if (playing) show();
    requestAnimationFrame(frame);
  })();
  choose(0);
})();
