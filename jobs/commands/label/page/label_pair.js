// The views of a pair: side by side, one in the place of the other, and their difference.

const ALIKE = 1.05; // up to this ratio of their shapes, one image is stretched onto the other
const BRIGHTER = 2; // a small difference must be visible

export function drawn(images, way, second) {
  const [a, b] = images.map((image) => image.clear);
  if (way === "side") return sideBySide([a, b], "pair");
  const box = common(a, b);
  if (way === "difference") return framed([named(difference(a, b, box), "difference: black where both are equal")], "pair one");
  return framed([named(placed(second ? b : a, box), second ? "B" : "A")], "pair one");
}

export function sideBySide(canvases, name) {
  return framed(canvases.map((canvas, place) => named(canvas, "AB"[place])), name);
}

function framed(figures, name) {
  const made = document.createElement("div");
  made.className = name;
  made.append(...figures);
  return made;
}

function named(canvas, text) {
  const made = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = text;
  made.append(canvas, caption);
  return made;
}

// The size of the larger image: both are drawn into it.
function common(a, b) {
  const larger = a.width * a.height < b.width * b.height ? b : a;
  return { width: larger.width, height: larger.height };
}

function placed(source, box) {
  const made = Object.assign(document.createElement("canvas"), { width: box.width, height: box.height, className: "clear" });
  put(made.getContext("2d"), source, box);
  return made;
}

function put(pen, source, { width, height }) {
  pen.imageSmoothingQuality = "high";
  const shape = (source.width / source.height) * (height / width);
  if (Math.max(shape, 1 / shape) <= ALIKE) return pen.drawImage(source, 0, 0, width, height);
  const scale = Math.min(width / source.width, height / source.height);
  const [wide, high] = [source.width * scale, source.height * scale];
  pen.drawImage(source, (width - wide) / 2, (height - high) / 2, wide, high);
}

function difference(a, b, box) {
  const both = placed(a, box);
  const pen = both.getContext("2d");
  pen.globalCompositeOperation = "difference";
  put(pen, b, box);
  const made = Object.assign(document.createElement("canvas"), { width: box.width, height: box.height, className: "clear" });
  const brush = made.getContext("2d");
  brush.fillRect(0, 0, box.width, box.height);
  brush.filter = `brightness(${BRIGHTER})`;
  brush.drawImage(both, 0, 0);
  return made;
}
