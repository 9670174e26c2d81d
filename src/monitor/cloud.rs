//! The cloud or hypervisor below the host: the strings of its firmware (DMI) first, and a metadata service only where they
//! name a cloud that has one. So a host outside all clouds sends no packet.

/// The directory of the firmware's strings.
pub const DMI: &str = "/sys/class/dmi/id";
/// The files of [`Strings`], in the order of its fields.
pub const FILES: [&str; 4] = ["sys_vendor", "product_name", "bios_vendor", "chassis_asset_tag"];
/// The tag by which a machine of Azure differs from any other one of Hyper-V.
/// <https://github.com/canonical/cloud-init/blob/main/cloudinit/sources/helpers/azure.py>
const AZURE_TAG: &str = "7783-7084-3265-9085-8269-3286-77";

/// Strings of the firmware; empty where it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Strings<'a> {
    /// The maker of the machine.
    pub vendor: &'a str,
    /// The model of the machine.
    pub product: &'a str,
    /// The maker of the firmware.
    pub bios: &'a str,
    /// The tag of the chassis.
    pub asset: &'a str,
}

/// A cloud that this file knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// EC2 of Amazon.
    Aws,
    /// Azure of Microsoft.
    Azure,
    /// Google Compute Engine.
    Gcp,
    /// Droplets of DigitalOcean.
    DigitalOcean,
    /// OpenStack, whoever runs it.
    OpenStack,
    /// The cloud of Hetzner.
    Hetzner,
    /// None: a hypervisor alone.
    None,
}

impl Provider {
    /// The name of the cloud; empty for none.
    pub fn name(self) -> &'static str {
        match self {
            Provider::Aws => "AWS",
            Provider::Azure => "Azure",
            Provider::Gcp => "GCP",
            Provider::DigitalOcean => "DigitalOcean",
            Provider::OpenStack => "OpenStack",
            Provider::Hetzner => "Hetzner",
            Provider::None => "",
        }
    }
}

/// The machine's place in a cloud. Fields that nobody told are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cloud {
    /// The cloud; empty: a hypervisor alone.
    pub provider: String,
    /// The region of the machine.
    pub region: String,
    /// The zone in the region.
    pub zone: String,
    /// The cloud's id of the machine.
    pub instance: String,
    /// The size of the machine, such as `m5.large`.
    pub size: String,
    /// The hypervisor; empty: none.
    pub hypervisor: String,
}

/// The cloud and the hypervisor that the firmware names; `None`: a bare machine outside all clouds.
pub fn detect(strings: Strings<'_>) -> Option<(Provider, &'static str)> {
    let Strings { vendor, product, bios, asset } = strings;
    let has = |text: &str, word: &str| text.contains(word);
    let provider = if has(vendor, "Amazon EC2") || has(bios, "Amazon EC2") || has(bios, "amazon") {
        Provider::Aws
    } else if asset == AZURE_TAG {
        Provider::Azure
    } else if has(product, "Google Compute Engine") {
        Provider::Gcp
    } else if has(vendor, "DigitalOcean") {
        Provider::DigitalOcean
    } else if has(product, "OpenStack") || has(vendor, "OpenStack") {
        Provider::OpenStack
    } else if has(vendor, "Hetzner") {
        Provider::Hetzner
    } else {
        Provider::None
    };
    let hypervisor = match provider {
        Provider::Aws if has(product, ".metal") => "",
        Provider::Aws if has(vendor, "Xen") => "Xen",
        Provider::Azure => "Hyper-V",
        Provider::Aws | Provider::Gcp | Provider::DigitalOcean | Provider::OpenStack | Provider::Hetzner => {
            "KVM"
        }
        Provider::None => by_model(vendor, product, bios),
    };
    (provider != Provider::None || !hypervisor.is_empty()).then_some((provider, hypervisor))
}

fn by_model(vendor: &str, product: &str, bios: &str) -> &'static str {
    let known: [(&str, &str); 9] = [
        ("VMware", "VMware"),
        ("innotek", "VirtualBox"),
        ("VirtualBox", "VirtualBox"),
        ("Xen", "Xen"),
        ("Parallels", "Parallels"),
        ("Virtual Machine", "Hyper-V"),
        ("KVM", "KVM"),
        ("QEMU", "QEMU"),
        ("Bochs", "QEMU"),
    ];
    let names = |word| [vendor, product, bios].iter().any(|text| text.contains(word));
    known.iter().find(|(word, _)| names(*word)).map_or("", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_names_clouds_and_hypervisors() {
        let of = |vendor, product, bios, asset| detect(Strings { vendor, product, bios, asset });
        assert_eq!(of("Amazon EC2", "m5.large", "Amazon EC2", ""), Some((Provider::Aws, "KVM")));
        assert_eq!(of("Amazon EC2", "m5.metal", "Amazon EC2", ""), Some((Provider::Aws, "")));
        assert_eq!(of("Xen", "HVM domU", "Xen 4.11.amazon", ""), Some((Provider::Aws, "Xen")));
        assert_eq!(
            of("Microsoft Corporation", "Virtual Machine", "", AZURE_TAG),
            Some((Provider::Azure, "Hyper-V"))
        );
        assert_eq!(of("Microsoft Corporation", "Virtual Machine", "", ""), Some((Provider::None, "Hyper-V")));
        assert_eq!(of("Google", "Google Compute Engine", "Google", ""), Some((Provider::Gcp, "KVM")));
        assert_eq!(of("DigitalOcean", "Droplet", "", ""), Some((Provider::DigitalOcean, "KVM")));
        assert_eq!(
            of("OpenStack Foundation", "OpenStack Nova", "SeaBIOS", ""),
            Some((Provider::OpenStack, "KVM"))
        );
        assert_eq!(
            of("QEMU", "Standard PC (Q35 + ICH9, 2009)", "SeaBIOS", ""),
            Some((Provider::None, "QEMU"))
        );
        assert_eq!(of("Dell Inc.", "PowerEdge R640", "Dell Inc.", "x"), None);
        assert_eq!(of("", "", "", ""), None, "a container or a machine without firmware");
    }
}
