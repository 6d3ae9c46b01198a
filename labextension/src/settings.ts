import type { ISettingRegistry } from "@jupyterlab/settingregistry";
import type { Way } from "./cells/actions";

/** What a person has set; the defaults are those of `schema/panel.json`. */
export class Settings {
  actions: Way = "cells";
  notifications = true;

  async follow(registry: ISettingRegistry | null, plugin: string): Promise<void> {
    const settings = await registry?.load(plugin);
    if (!settings) {
      return;
    }
    const take = () => {
      this.actions = settings.get("actions").composite === "server" ? "server" : "cells";
      this.notifications = settings.get("notifications").composite !== false;
    };
    settings.changed.connect(take);
    take();
  }
}
