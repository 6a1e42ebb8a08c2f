// Pictures of a gallery: the mask at a threshold, the map, and the outline of the ground truth.
(() => {
  "use strict";

  const HOT = [[0, 0, 3], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];
  const MASK = [255, 96, 0, 150];
  const OUTLINE = "#00ff90";
  const NOT_SCORED = [128, 128, 128, 150];

  // Grey values of a picture in a data URI, exactly as they were written.
  async function greys(uri) {
    const image = new Image();
    image.src = uri;
    await image.decode();
    const canvas = document.createElement("canvas");
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    const values = new Uint8Array(width * height);
    for (let i = 0; i < values.length; i += 1) values[i] = data[4 * i];
    return { width, height, values };
  }

  // What is drawn of an image; `true` marks are anomalous, 128 those that are not scored.
  async function read(one) {
    const map = await greys(one.map);
    const truth = one.truth ? (await greys(one.truth)).values : null;
    let top = 0;
    for (const level of map.values) top = Math.max(top, level);
    return { ...map, truth, outline: truth && outlineOf(truth, map), exact: top === one.top };
  }

  // Sides of anomalous cells behind which there is none.
  function outlineOf(truth, { width, height }) {
    const path = new Path2D();
    const is = (x, y) => x >= 0 && y >= 0 && x < width && y < height && truth[y * width + x] === 255;
    const line = (x, y, toX, toY) => {
      path.moveTo(x, y);
      path.lineTo(toX, toY);
    };
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        if (!is(x, y)) continue;
        if (!is(x, y - 1)) line(x, y, x + 1, y);
        if (!is(x, y + 1)) line(x, y + 1, x + 1, y + 1);
        if (!is(x - 1, y)) line(x, y, x, y + 1);
        if (!is(x + 1, y)) line(x + 1, y, x + 1, y + 1);
      }
    }
    return path;
  }

  function heat(share) {
    const at = Math.min(0.9999, Math.max(0, share)) * (HOT.length - 1);
    const [low, part] = [Math.floor(at), at % 1];
    return HOT[low].map((value, i) => value + (HOT[low + 1][i] - value) * part);
  }

  // A colour for each level of a map: from the median score of the split to its highest.
  // A threshold of validation may lie above all of them.
  function palette({ edges, low, high }) {
    return [edges[0], ...edges].map((edge) => {
      const share = high > low ? (edge - low) / (high - low) : 0;
      return [...heat(share), 230];
    });
  }

  // Draw what `how` asks for ("mask", "map" or "none") at a level over a photograph.
  function paint(canvas, picture, colours, { how, level, outlined }) {
    const { width, height, values, truth, outline } = picture;
    const small = document.createElement("canvas");
    Object.assign(small, { width, height });
    const context = small.getContext("2d");
    const cells = context.createImageData(width, height);
    const clear = [0, 0, 0, 0];
    for (let i = 0; i < values.length; i += 1) {
      let colour = clear;
      if (truth && truth[i] === 128) colour = NOT_SCORED;
      else if (how === "map") colour = colours[values[i]];
      else if (how === "mask" && values[i] >= level) colour = MASK;
      cells.data.set(colour, 4 * i);
    }
    context.putImageData(cells, 0, 0);
    const scale = Math.max(1, canvas.clientWidth || width) * (window.devicePixelRatio || 1) / width;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const large = canvas.getContext("2d");
    large.imageSmoothingEnabled = how === "map";
    large.drawImage(small, 0, 0, canvas.width, canvas.height);
    if (!outline || !outlined) return;
    large.scale(canvas.width / width, canvas.height / height);
    const thin = (window.devicePixelRatio || 1) / scale;
    large.lineCap = "square";
    for (const [colour, size] of [["rgba(0, 0, 0, 0.75)", 3], [OUTLINE, 1.5]]) {
      large.strokeStyle = colour;
      large.lineWidth = size * thin;
      large.stroke(outline);
    }
  }

  // Shares of what is anomalous, and of what is not, that reach a level, in the cells drawn.
  function foundIn({ values, truth }, level) {
    const counts = { true: [0, 0], false: [0, 0] };
    for (let i = 0; i < values.length; i += 1) {
      if (truth && truth[i] === 128) continue;
      const own = counts[Boolean(truth) && truth[i] === 255];
      own[0] += 1;
      if (values[i] >= level) own[1] += 1;
    }
    const [inside, outside] = [counts.true, counts.false]
      .map(([all, called]) => (all ? called / all : null));
    return { inside, outside };
  }

  Object.assign(window.autosearchGallery, { draw: { read, paint, palette, foundIn } });
})();
