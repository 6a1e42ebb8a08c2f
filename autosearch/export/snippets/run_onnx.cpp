// Looks at images with the model of this folder: ./run_onnx model.onnx IMAGE.ppm ...
//
// Needs the C++ API of onnxruntime and nothing else. The headers are in onnxruntime's release
// archives, in Debian's libonnxruntime-dev and in NuGet's Microsoft.ML.OnnxRuntime:
//
//   g++ -std=c++17 -O2 -o run_onnx run_onnx.cpp -IORT/include -LORT/lib -lonnxruntime
//
// Reads binary PPM (P6, 8 bits; `convert part.png part.ppm` makes one). Prints score and verdict
// of every image and writes its anomaly map, of the image's own size, to IMAGE.ppm.pfm. The
// numbers below were filled in from model.json by autosearch export. Yours to change.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <onnxruntime_cxx_api.h>

const char* const kRefused = "@refused@";  // why this example is not enough; "" if it is
const int kHeight = @height@, kWidth = @width@;  // of the model's input
const bool kStretch = @stretch@;  // else the aspect is kept, and edges repeated beside
const int kRegion[4] = {@region@};  // top, left, bottom, right that is cut out; -1: all
const double kTopShare = @top_share@;  // of a map's pixels, whose mean is the score; 0: the highest
const double kLimit = @limit@;  // scores from here on are anomalous

struct Plane {
  int height, width;
  std::vector<float> values;
  Plane(int h, int w) : height(h), width(w), values(size_t(h) * w) {}
  float& at(int row, int column) { return values[size_t(row) * width + column]; }
  float at(int row, int column) const { return values[size_t(row) * width + column]; }
};

// Rows resized: bilinear, the triangle widened by the reduction (antialiased), float32 kept.
Plane resized_rows(const Plane& image, int width) {
  Plane found(image.height, width);
  const double scale = double(image.width) / width, reach = std::max(scale, 1.0);
  for (int column = 0; column < width; ++column) {
    const double centre = (column + 0.5) * scale;
    const int first = std::max(0, int(centre - reach + 0.5));
    const int end = std::min(image.width, int(centre + reach + 0.5));
    std::vector<double> weights;
    for (int i = first; i < end; ++i)
      weights.push_back(std::max(0.0, 1 - std::abs((i - centre + 0.5) / reach)));
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (int row = 0; row < image.height; ++row) {
      double sum = 0;
      for (int i = first; i < end; ++i) sum += image.at(row, i) * (weights[i - first] / total);
      found.at(row, column) = float(sum);
    }
  }
  return found;
}

Plane turned(const Plane& image) {
  Plane found(image.width, image.height);
  for (int row = 0; row < image.height; ++row)
    for (int column = 0; column < image.width; ++column)
      found.at(column, row) = image.at(row, column);
  return found;
}

Plane resized(const Plane& image, int height, int width) {
  return turned(resized_rows(turned(resized_rows(image, width)), height));
}

struct Box {
  int top, left, height, width;
};

// Where a part of an image lies on the model's input: in its middle, as large as its aspect allows.
Box place(int height, int width) {
  const double scale = std::min(double(kHeight) / height, double(kWidth) / width);
  const int h = std::max(1, int(std::nearbyint(height * scale)));
  const int w = std::max(1, int(std::nearbyint(width * scale)));
  const bool near = kHeight - h <= std::max(4.0, 0.04 * kHeight) &&
                    kWidth - w <= std::max(4.0, 0.04 * kWidth);
  if (kStretch || near) return {0, 0, kHeight, kWidth};
  return {(kHeight - h) / 2, (kWidth - w) / 2, h, w};
}

int number(std::istream& file) {
  std::string word;
  while (file >> word && word[0] == '#') std::getline(file, word);  // Remarks are left out.
  return std::stoi(word);
}

// The three channels of a file, in [0, 1].
std::vector<Plane> read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  if (!(file >> kind) || kind != "P6") throw std::runtime_error("is no binary PPM (P6)");
  const int width = number(file), height = number(file), highest = number(file);
  if (width < 1 || height < 1 || highest != 255) throw std::runtime_error("is not of 8 bits");
  file.get();
  std::vector<unsigned char> bytes(size_t(3) * width * height);
  if (!file.read(reinterpret_cast<char*>(bytes.data()), bytes.size()))
    throw std::runtime_error("ends early");
  std::vector<Plane> image(3, Plane(height, width));
  for (size_t i = 0; i < bytes.size(); ++i) image[i % 3].values[i / 3] = bytes[i] / 255.0f;
  return image;
}

Plane cut(const Plane& image, Box box) {
  Plane found(box.height, box.width);
  for (int row = 0; row < box.height; ++row)
    for (int column = 0; column < box.width; ++column)
      found.at(row, column) = image.at(box.top + row, box.left + column);
  return found;
}

double score_of(std::vector<float> values) {
  const size_t wanted = std::ceil(kTopShare * values.size());
  const size_t n = std::clamp<size_t>(wanted, 1, values.size());
  std::nth_element(values.begin(), values.begin() + (n - 1), values.end(), std::greater<float>());
  return std::accumulate(values.begin(), values.begin() + n, 0.0) / n;
}

// Score of an image, and its map of the image's own size; higher is more anomalous.
std::pair<double, Plane> look(Ort::Session& session, const std::vector<Plane>& image) {
  Box part{0, 0, image[0].height, image[0].width};
  if (kRegion[0] >= 0)
    part = {kRegion[0], kRegion[1], kRegion[2] - kRegion[0], kRegion[3] - kRegion[1]};
  if (part.top + part.height > image[0].height || part.left + part.width > image[0].width)
    throw std::runtime_error("does not hold the region that the model looks at");
  const Box box = place(part.height, part.width);
  std::vector<float> input(size_t(3) * kHeight * kWidth);
  auto next = input.begin();
  for (const Plane& channel : image) {
    const Plane small = resized(cut(channel, part), box.height, box.width);
    for (int row = 0; row < kHeight; ++row)
      for (int column = 0; column < kWidth; ++column)
        *next++ = small.at(std::clamp(row - box.top, 0, box.height - 1),
                           std::clamp(column - box.left, 0, box.width - 1));
  }
  const int64_t shape[] = {1, 3, kHeight, kWidth};
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  auto images = Ort::Value::CreateTensor<float>(memory, input.data(), input.size(), shape, 4);
  const char *given = "images", *asked = "anomaly_map";
  auto answers = session.Run(Ort::RunOptions{nullptr}, &given, &images, 1, &asked, 1);
  Plane map(kHeight, kWidth);
  std::copy_n(answers[0].GetTensorData<float>(), map.values.size(), map.values.begin());
  const Plane seen = cut(map, box), large = resized(seen, part.height, part.width);
  Plane whole(image[0].height, image[0].width);
  const float lowest = *std::min_element(large.values.begin(), large.values.end());
  std::fill(whole.values.begin(), whole.values.end(), lowest);
  for (int row = 0; row < large.height; ++row)
    for (int column = 0; column < large.width; ++column)
      whole.at(part.top + row, part.left + column) = large.at(row, column);
  return {score_of(seen.values), whole};
}

// Portable float map: rows from the bottom up, little endian.
void write_pfm(const std::string& path, const Plane& map) {
  std::ofstream file(path, std::ios::binary);
  file << "Pf\n" << map.width << " " << map.height << "\n-1.0\n";
  for (int row = map.height - 1; row >= 0; --row)
    file.write(reinterpret_cast<const char*>(&map.values[size_t(row) * map.width]),
               sizeof(float) * map.width);
}

int main(int count, char** names) {
  if (*kRefused) {
    std::fprintf(stderr, "%s\n", kRefused);
    return 1;
  }
  if (count < 3) {
    std::fprintf(stderr, "usage: run_onnx model.onnx IMAGE.ppm ...\n");
    return 2;
  }
  std::string current = names[1];
  try {
    Ort::Env env(ORT_LOGGING_LEVEL_ERROR);
    // Windows wants wide characters here: L"model.onnx".
    Ort::Session session(env, names[1], Ort::SessionOptions{});
    for (int i = 2; i < count; ++i) {
      current = names[i];
      const auto [score, map] = look(session, read_ppm(current));
      write_pfm(current + ".pfm", map);
      std::printf("%s: %.6f %s (limit %g)\n", names[i], score,
                  score >= kLimit ? "anomalous" : "normal", kLimit);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", current.c_str(), error.what());
    return 1;
  }
}
