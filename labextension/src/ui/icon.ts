import { LabIcon } from "@jupyterlab/ui-components";

/** A curve that rises, over its axes. */
export const icon = new LabIcon({
  name: "verl-lab:runs",
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" width="24">
  <g fill="none"><path class="jp-icon3" stroke="#616161" stroke-width="2" stroke-linecap="round"
    stroke-linejoin="round" d="M4 4v16h16M8 15.500c4.500 0 3.500-8.500 11-9"/></g></svg>`,
});
