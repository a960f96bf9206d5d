// The grid: several images at once, of which a person marks those that are not a plain no.

export const SIZES = [1, 9, 16]; // images at once
const NEXT = { no: "yes", yes: "unsure", unsure: "no" };

// The answer that an image gets with all others. An image that cannot be shown is never a no by default.
export const answerOf = (image) => image.mark ?? (image.broken ? "unsure" : "no");

export const turn = (image) => {
  image.mark = NEXT[answerOf(image)];
};

export const columns = (size) => Math.round(Math.sqrt(size));

// Returns the place to which an arrow key moves from a place.
export function moved(place, key, count, size) {
  const step = { arrowleft: -1, arrowright: 1, arrowup: -columns(size), arrowdown: columns(size) }[key];
  return place + step >= 0 && place + step < count ? place + step : place;
}

export function drawn(images, veiled, cursor, size) {
  const made = document.createElement("div");
  made.className = "cells";
  made.style.setProperty("--columns", columns(size));
  made.append(...images.map((image, place) => cell(image, veiled, place, place === cursor)));
  return made;
}

function cell(image, veiled, place, isCurrent) {
  const made = document.createElement("figure");
  made.className = `cell ${answerOf(image)}${isCurrent ? " current" : ""}`;
  made.dataset.place = place;
  made.title = image.caption || "no caption";
  const mark = document.createElement("figcaption");
  mark.textContent = answerOf(image) === "no" ? String(place + 1) : answerOf(image);
  const shown = veiled ? image.veil : image.clear;
  const missing = document.createElement("p");
  missing.textContent = image.broken ? "cannot be shown" : "loading";
  made.append(image.broken || !shown ? missing : shown, mark);
  return made;
}

// What `answer all` would do, in words.
export function summary(images) {
  const counts = { yes: 0, no: 0, unsure: 0 };
  for (const image of images) counts[answerOf(image)] += 1;
  return Object.entries(counts)
    .filter(([, n]) => n)
    .map(([answer, n]) => `${n} ${answer}`)
    .join(", ");
}
