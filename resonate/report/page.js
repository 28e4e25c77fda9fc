"use strict";
// One sound is heard at a time. On a change the next one starts at the place of the one before, which plays on until
// then; if the two are more than 30 ms apart once both run, the new one is moved.
(function () {
  const APART = 0.03;
  const sounds = Array.from(document.querySelectorAll("audio.track"));
  const choices = Array.from(document.querySelectorAll("[data-track]"));
  const play = document.getElementById("play");
  const seek = document.getElementById("seek");
  const clock = document.getElementById("clock");
  const note = document.getElementById("says");
  const heads = Array.from(document.querySelectorAll(".head"));
  const stretches = JSON.parse(document.getElementById("stretches").textContent); // [[start, seconds], ...] of the recording
  const total = stretches.reduce((sum, s) => sum + s[1], 0);
  const whole = Number(seek.dataset.whole);
  let active = 0;
  let dragging = false;

  // From the position in the previews to the time in the recording, and back (to the nearest that is previewed).
  function outside(t) {
    for (const s of stretches) {
      if (t <= s[1]) return s[0] + t;
      t -= s[1];
    }
    const last = stretches[stretches.length - 1];
    return last[0] + last[1];
  }
  function inside(time) {
    let before = 0, best = 0, distance = Infinity;
    for (const s of stretches) {
      const t = Math.min(Math.max(time, s[0]), s[0] + s[1]);
      if (Math.abs(t - time) < distance) { distance = Math.abs(t - time); best = before + t - s[0]; }
      before += s[1];
    }
    return best;
  }
  function words(t) {
    const s = Math.floor(t);
    const tail = String(s % 60).padStart(2, "0");
    return s >= 3600 ? Math.floor(s / 3600) + ":" + String(Math.floor(s / 60) % 60).padStart(2, "0") + ":" + tail : Math.floor(s / 60) + ":" + tail;
  }
  function show() {
    const t = dragging ? Number(seek.value) : sounds[active].currentTime;
    if (!dragging) seek.value = String(t);
    clock.textContent = words(outside(t)) + " / " + words(whole);
    for (const head of heads) head.style.left = (100 * Math.min(1, outside(t) / whole)) + "%";
    play.textContent = sounds[active].paused ? "Play" : "Pause";
  }
  function failed(error) {
    note.textContent = "This browser cannot play the preview (" + error.name + "); the WAV files beside this page are complete.";
  }
  function go(t) {
    sounds[active].currentTime = Math.min(Math.max(t, 0), total);
    show();
  }
  function hear(index) {
    if (index === active) return;
    const old = sounds[active], next = sounds[index], running = !old.paused;
    active = index;
    choices.forEach((button, i) => {
      button.setAttribute("aria-checked", String(i === index));
      button.tabIndex = i === index ? 0 : -1;
    });
    note.textContent = choices[index].dataset.says;
    next.currentTime = old.currentTime;
    if (running) {
      next.play().then(function () {
        if (Math.abs(old.currentTime - next.currentTime) > APART) next.currentTime = old.currentTime;
        old.pause();
        if (sounds[active] !== next) next.pause(); // another was chosen while this one was loading
      }, failed);
    }
    show();
  }
  play.addEventListener("click", function () {
    const sound = sounds[active];
    if (sound.paused) sound.play().catch(failed); else sounds.forEach((s) => s.pause());
    show();
  });
  choices.forEach((button, i) => button.addEventListener("click", () => hear(i)));
  seek.addEventListener("input", function () { dragging = true; show(); });
  seek.addEventListener("change", function () { dragging = false; go(Number(seek.value)); });
  document.querySelectorAll(".screen").forEach(function (screen) {
    screen.addEventListener("click", function (event) {
      const box = screen.getBoundingClientRect();
      go(inside(whole * (event.clientX - box.left) / box.width));
    });
  });
  document.addEventListener("keydown", function (event) {
    if (event.target.closest("input, summary, a") || event.ctrlKey || event.metaKey || event.altKey) return;
    const digit = "1234567890".indexOf(event.key);
    const turn = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === " " && event.target !== play) {
      event.preventDefault();
      play.click();
    } else if (digit >= 0 && digit < choices.length) {
      hear(digit);
    } else if (turn && event.target.dataset.track !== undefined) {
      event.preventDefault();
      hear((active + turn + choices.length) % choices.length);
      choices[active].focus();
    }
  });
  sounds.forEach(function (sound) {
    ["timeupdate", "play", "pause", "ended", "seeked"].forEach((name) => sound.addEventListener(name, show));
  });
  (function follow() {
    if (!sounds[active].paused) show();
    requestAnimationFrame(follow);
  })();
  show();
})();
