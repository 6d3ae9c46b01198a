import * as React from "react";
import type { Gpu } from "../api/types";
import { useSession } from "../panel/context";

/** The GPUs of a host: memory as a bar with numbers beside it. */
export function Gpus({ gpus }: { gpus: Gpu[] | null }): JSX.Element | null {
  const { trans } = useSession();
  if (gpus === null || gpus.length === 0) {
    return null;
  }
  const gb = (mb: number | null) => (mb === null ? "?" : (mb / 1024).toFixed(0));
  return (
    <ul className="vl-plain-list vl-gpus" aria-label={trans.__("GPUs")}>
      {gpus.map((gpu, index) => {
        const share = gpu.used_mb !== null && gpu.total_mb ? gpu.used_mb / gpu.total_mb : 0;
        const more = [
          gpu.load === null ? null : `${Math.round(gpu.load)} %`,
          gpu.temperature === null ? null : `${Math.round(gpu.temperature)} °C`,
        ];
        return (
          // biome-ignore lint/suspicious/noArrayIndexKey: a GPU is its place in the host
          <li key={index}>
            <span className="vl-one-line">{gpu.name}</span>
            <span className="vl-quiet vl-numbers">
              {[trans.__("%1 of %2 GB", gb(gpu.used_mb), gb(gpu.total_mb)), ...more].filter(Boolean).join(" · ")}
            </span>
            <span className="vl-bar" aria-hidden="true">
              <i style={{ width: `${Math.min(100, share * 100)}%` }} />
            </span>
          </li>
        );
      })}
    </ul>
  );
}
