import type { Num } from "../api/types";

/** Return an SVG path of finite values in a box; each gap begins a new line. Nothing from fewer than two values. */
export function sparkPath(values: readonly (Num | null)[], width: number, height: number): string {
  const finite = values.filter((value): value is number => typeof value === "number");
  if (finite.length < 2) {
    return "";
  }
  const low = Math.min(...finite);
  const span = Math.max(...finite) - low;
  const x = (i: number) => ((i * width) / (values.length - 1)).toFixed(1);
  const y = (value: number) => (span ? height - ((value - low) / span) * height : height / 2).toFixed(1);
  let path = "";
  let pen = "M";
  values.forEach((value, i) => {
    if (typeof value === "number") {
      path += `${pen}${x(i)} ${y(value)}`;
      pen = "L";
    } else {
      pen = "M";
    }
  });
  return path;
}
